"""Looking into the log of a running node, from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from events.errors import MailioError
from node.cli.main import app
from tests.daemon import COMMAND, Daemon, running
from tests.tampering import rewrite, tamper

ROOT = Path(__file__).parent.parent.parent
FRIEND = b"From: bob@beta.example\r\nMessage-ID: <hello@beta.example>\r\nSubject: hello\r\n\r\nhello\r\n"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One daemon for all tests that only look; it has an account with one message."""
    with running(tmp_path_factory.mktemp("node")) as daemon:
        daemon.account()
        daemon.send(FRIEND)
        daemon.wait_for(daemon.settled, "not filed")
        yield daemon


def run(daemon: Daemon, *words: str, code: int = 0) -> str:
    """Run a command in this process, beside the daemon; return what it printed."""
    result = CliRunner().invoke(app, ["--config", str(daemon.file), *words])
    if isinstance(result.exception, MailioError):
        raise result.exception
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def started(daemon: Daemon, *words: str) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [*COMMAND, "--config", str(daemon.file), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_records_are_shown_a_line_each_or_whole(node: Daemon) -> None:
    newest = lines(run(node, "log", "tail", "-n", "2", "--json"))
    assert [record["type"] for record in newest] == ["MailAccepted", "MessageFiled"]
    filed = newest[1]
    assert run(node, "log", "tail", "-n", "1").startswith(f"{filed['position']:>8}  ")
    for name in (str(filed["position"]), filed["metadata"]["id"], filed["stream"]):
        whole = run(node, "log", "show", name)
        assert filed["hash"] in whole
        assert '"reason": "first_contact"' in whole
    assert lines(run(node, "log", "show", filed["stream"], "--json")) == [filed]
    found = lines(
        run(node, "log", "grep", "hello@beta", "--type", "MailAccepted", "--since", "-1h", "--json")
    )
    assert found == [newest[0]]
    assert lines(run(node, "log", "grep", "--correlation", str(newest[0]["position"]), "--json")) == newest
    assert run(node, "log", "grep", "nothing like that", code=1) == ""


def test_a_new_record_is_followed_until_ctrl_c(node: Daemon) -> None:
    process = started(node, "log", "tail", "-n", "1", "--follow", "--json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    node.send(FRIEND.replace(b"<hello@", b"<bye@"))
    second = json.loads(process.stdout.readline())
    assert second["position"] == first["position"] + 1
    process.send_signal(signal.SIGINT)
    rest, complaints = process.communicate(timeout=30)
    assert process.returncode == 130
    assert complaints == ""
    assert all(json.loads(line) for line in rest.splitlines())


def test_a_reader_that_leaves_early_gets_no_complaint(node: Daemon) -> None:
    process = started(node, "log", "tail", "-f", "-n", "100")
    assert process.stdout is not None
    process.stdout.close()
    node.send(FRIEND.replace(b"<hello@", b"<bye@"))
    assert process.wait(30) != 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_state_and_difference_of_a_mailbox(node: Daemon) -> None:
    now = json.loads(run(node, "state", "someone@alpha.example", "--json"))
    assert now["mailbox"]["filed"] >= 1
    assert now["account"]["enabled"]
    only = json.loads(run(node, "state", now["address"], "--at", "1", "--only", "mailbox", "--json"))
    assert (only["position"], only["mailbox"]["filed"]) == (1, 0)
    assert "account" not in only
    assert "bob@beta.example / received" in run(node, "state", "someone@alpha.example")
    found = json.loads(run(node, "diff", "someone@alpha.example", "--from", "2", "--json"))
    assert "inbox" in {document["after"]["folder"] for document in found["documents"]}
    printed = run(node, "diff", "someone@alpha.example", "--from", "2", "--to", "now")
    assert "mailbox / filed: 0 -> " in printed
    with pytest.raises(MailioError, match="turn them round"):
        run(node, "diff", "someone@alpha.example", "--from", "3", "--to", "2")


def test_why_tells_the_story_of_a_message(node: Daemon) -> None:
    (story,) = json.loads(run(node, "why", "<hello@beta.example>", "--json"))
    assert [step["what"] for step in story["steps"]] == ["session", "accepted"]
    assert [step["what"] for step in story["branches"][0]["steps"]] == ["verdict", "filed", "shown"]
    session = story["steps"][0]["facts"]["session"]
    assert f"session={session}" in node.printed()
    assert f"mail={story['mail']}" in node.printed()
    printed = run(node, "why", story["mail"])
    assert "first_contact" in printed
    assert all(line.isprintable() for line in printed.splitlines())
    with pytest.raises(MailioError, match="refused"):
        run(node, "why", "<never@beta.example>")


def test_a_checkpoint_kept_elsewhere_finds_a_log_that_was_rewritten(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        daemon.account()
        kept = tmp_path / "checkpoint.json"
        kept.write_text(run(daemon, "log", "checkpoint"))
        daemon.send(FRIEND)
        assert "the log contains its history" in run(daemon, "verify", "--checkpoint", str(kept))
        daemon.stop()
    report = json.loads(run(daemon, "verify", "--json"))
    assert (report["checkpoints"], report["attested"]) == (2, report["events"] - 1)

    log = daemon.data / "log.sqlite"
    rewrite(log, lambda row: None if row.topic == "CheckpointSigned" else row._replace(topic=row.topic))
    assert json.loads(run(daemon, "verify", "--json"))["checkpoints"] == 0
    rewrite(log, lambda row: None if row.position == 2 else row)
    run(daemon, "verify", code=0)
    told = run(daemon, "verify", "--checkpoint", str(kept), code=1)
    assert "rewritten" in told or "cut off" in told

    tamper(log, "UPDATE events SET state = x'90' WHERE position = 2")
    assert json.loads(run(daemon, "verify", "--json", code=1))["firstBad"] == 2
    printed = run(daemon, "log", "grep", "--json", code=1)
    damaged = [record["position"] for record in lines(printed) if record.get("problem")]
    assert damaged == [2]
    assert "position 2" in run(daemon, "log", "show", "2", code=1)


def test_a_shell_completes_commands(tmp_path: Path) -> None:
    environment = os.environ | {
        "_MAILIO_NODE_COMPLETE": "complete_bash", "COMP_WORDS": "mailio-node log ", "COMP_CWORD": "2",
    }  # fmt: skip
    script = "import sys; sys.argv[0] = 'mailio-node'; from node.cli.main import main; main()"
    done = subprocess.run(
        [COMMAND[0], "-c", script], capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )
    assert done.stdout.split() == ["show", "tail", "grep", "checkpoint"]
