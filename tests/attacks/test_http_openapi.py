"""The served OpenAPI document, turned against the node: requests made from it, right and wrong ones.

No answer is 5xx; each has a status, a media type and a shape that the document names; what the document does not
allow is refused; who has no token gets nothing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.daemon import Daemon
from tests.scenarios.test_isolation import ask, by_token

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
EXAMPLES = 2
"""Random requests of each operation, beside those for every bound and type of every parameter."""

LEFT_OUT = ("^/v1/", "^/api/v1/logout$")
"""Second names of other routes, and the one that ends the token that all requests share."""


def test_the_node_answers_as_its_document_says(daemon: Daemon, tmp_path: Path) -> None:
    token = by_token(daemon, daemon.account("openapi@alpha.example"))
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{daemon.url}/api/openapi.json",
        "--header", f"Authorization: {token}", "--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing",
        "--max-examples", str(EXAMPLES), "--seed", "1", "--no-shrink", "--no-color", "--continue-on-failure",
    ]  # fmt: skip
    for path in LEFT_OUT:
        command += ["--exclude-path-regex", path]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=150, check=False)
    assert ended.returncode == 0, ended.stdout[-8_000:]
    assert "Tested:" in ended.stdout


def test_logging_out_ends_the_token(daemon: Daemon) -> None:
    token = by_token(daemon, daemon.account("leaves@alpha.example"))
    assert ask(daemon, "GET", "/api/v1/logout", token)[0] == 200
    assert ask(daemon, "GET", "/api/v1/user/me", token)[0] == 401
