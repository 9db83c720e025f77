"""What an operator meets who has made a mistake, or asks a node that does not run: one true line, and what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.program import call

EMAIL = "someone@alpha.example"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The configuration of a node that never ran."""
    file = tmp_path / "node.toml"
    file.write_text(
        f'[node]\ndata = "{tmp_path}/data"\nserver_domain = "localhost"\nemail_domains = ["alpha.example"]\n'
        '[smtp]\nlisten = "127.0.0.1:1"\n[http]\nlisten = "127.0.0.1:1"\n'
    )
    return file


async def test_status_of_a_stopped_node_tells_where_its_views_are(file: Path) -> None:
    assert (await call(file, "account", "add", EMAIL))[0] == 0
    code, out, _ = await call(file, "rebuild", "--json")
    assert code == 0, out
    code, out, _ = await call(file, "status", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["head"] > 0
    assert {(view["position"], view["lag"]) for view in told["views"].values()} == {(told["head"], 0)}


async def test_a_handshake_without_a_node_names_the_door_and_not_the_request(file: Path) -> None:
    await call(file, "account", "add", EMAIL)
    code, _, err = await call(file, "handshake", "accept", EMAIL, "friend@beta.example")
    assert code == 78
    assert "no node answers at http://127.0.0.1:1: " in err
    assert "userdb-" not in err
    assert "urlopen" not in err


async def test_an_unknown_event_type_is_named_when_nothing_is_found(file: Path) -> None:
    await call(file, "account", "add", EMAIL)
    code, out, err = await call(file, "log", "grep", "--type", "MesageFiled", "--type", "MessageFiled")
    assert (code, out) == (1, "")
    assert err == "mailio-node: this program knows no event type MesageFiled\n"


async def test_a_missing_configuration_is_answered_with_the_command_that_writes_it(tmp_path: Path) -> None:
    file = tmp_path / "a" / "node.toml"
    code, _, err = await call(file, "config")
    assert (code, f"`mailio-node --config {file} init` writes one" in err) == (78, True)
    code, out, _ = await call(file, "init")
    assert code == 0
    assert f"next: mailio-node --config {file} run" in out
    assert (await call(file, "config"))[0] == 0


async def test_a_data_folder_of_somebody_else_is_no_traceback(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    # The tests may run as root, who is let in everywhere.
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path / "data")
    code, _, err = await call(file, "status")
    assert code == 78
    assert "run this as the one who owns it" in err
    assert err.count("\n") == 1


async def test_the_program_tells_its_version(file: Path) -> None:
    code, out, _ = await call(file, "--version")
    assert code == 0
    assert out.startswith("mailio-node 0.")


async def test_no_key_file_is_answered_with_where_there_is_one(file: Path, tmp_path: Path) -> None:
    await call(file, "account", "add", EMAIL)
    (tmp_path / "data" / "keys" / "server.json").unlink()
    code, _, err = await call(file, "backup", str(tmp_path / "backup"))
    assert code == 78
    assert "a backup has it" in err
