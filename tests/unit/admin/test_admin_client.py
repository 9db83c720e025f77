"""The client side of the operator's socket: what a command hears, also from a daemon that goes away."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from events.errors import NotFound
from node.admin.address import socket_path
from node.admin.client import DaemonFailure, carry_out
from node.settings import NodeSettings, Settings
from tests.program import call

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextmanager
def daemon(data: Path, *pieces: bytes) -> Iterator[Settings]:
    """Somebody at the socket who reads a request, answers with these bytes, and hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(socket_path(data)))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                request = b""
                while not request.endswith(b"}"):
                    request += connection.recv(65_536)
                for piece in pieces:
                    connection.sendall(piece)

        thread = Thread(target=serve)
        thread.start()
        yield Settings(node=NodeSettings(data=data))
        thread.join(10)
        assert not thread.is_alive()


def chunk(line: bytes) -> bytes:
    return f"{len(line):x}\r\n".encode() + line + b"\r\n"


END = chunk(b"")
REPORT, RESULT = chunk(b'{"answer": {"done": 1}}\n'), chunk(b'{"answer": {"done": 2}}\n')


def test_the_last_answer_is_the_result_and_those_before_are_reports(tmp_path: Path) -> None:
    reports: list[dict[str, Any]] = []
    with daemon(tmp_path, HEAD, REPORT, REPORT, RESULT, END) as settings:
        assert carry_out(settings, "x", {}, reports.append) == {"done": 2}
    assert reports == [{"done": 1}, {"done": 1}]


def test_an_error_of_the_daemon_is_raised_as_what_it_is(tmp_path: Path) -> None:
    refused = chunk(b'{"error": {"kind": "NotFound", "text": "nobody"}}\n')
    with daemon(tmp_path, HEAD, refused, END) as settings, pytest.raises(NotFound, match="nobody"):
        carry_out(settings, "x", {})


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"HTTP/1.1 200 OK\r\nTransf"],
        [HEAD],
        [HEAD, REPORT],
        [HEAD, REPORT, b"17\r\n{"],
        [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nno\n"],
    ],
    ids=["nothing", "half a head", "a head", "a report only", "half a line", "no JSON"],
)
def test_a_daemon_that_goes_away_is_one_clear_error_and_no_result(
    tmp_path: Path, pieces: list[bytes]
) -> None:
    with daemon(tmp_path, *pieces) as settings, pytest.raises(DaemonFailure, match="went away"):
        carry_out(settings, "x", {})


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("node.cli.main", {"aiohttp", "asyncio", "cryptography", "eventsourcing", "rich", "structlog"}),
        ("node.daemon", {"webauthn", "OpenSSL", "pyasn1", "typer"}),
        ("node.admin.client", {"aiohttp", "cryptography", "eventsourcing", "node.core", "dns"}),
    ],
)
def test_what_a_command_does_not_need_is_not_imported(module: str, unneeded: set[str]) -> None:
    """Help, completion and every question to a running daemon would wait for it."""
    program = f"import sys, {module}; print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert sorted(unneeded & set(printed.split())) == []


ADD = ("account", "add", "someone@alpha.example")
OPENED = chunk(b'{"answer": {"address": "0x1", "email": "someone@alpha.example", "did": "did:mailio:0x1"}}\n')
FULL = chunk(b'{"error": {"kind": "StorageUnavailable", "text": "no space left"}}\n')
TAKEN = chunk(b'{"error": {"kind": "Conflict", "text": "email already exists"}}\n')


@pytest.mark.parametrize(
    ("pieces", "ended", "kept"),
    [
        ([HEAD, OPENED, END], 0, True),
        ([HEAD, TAKEN, END], 1, False),
        ([HEAD, FULL, END], 75, True),
        ([HEAD], 1, True),
        ([], 1, True),
    ],
    ids=["opened", "refused", "perhaps stored", "gone at work", "gone before"],
)
async def test_the_keys_of_an_account_that_may_be_open_are_kept(
    tmp_path: Path, pieces: list[bytes], ended: int, kept: bool
) -> None:
    file = tmp_path / "node.toml"
    file.write_text(f'[node]\nemail_domains = ["alpha.example"]\ndata = "{tmp_path}"\n')
    with daemon(tmp_path, *pieces):
        code, _, told = await call(file, *ADD)
    keys = tmp_path / "accounts" / "someone@alpha.example.json"
    assert (code, keys.exists()) == (ended, kept)
    assert ("not known whether the account was opened" in told) == (kept and code > 0)
    assert (str(keys) in told) == (kept and code > 0)
