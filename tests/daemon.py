"""A real daemon in a process of its own, for tests: private folder, free ports, killed at the end."""

from __future__ import annotations

import base64
import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "node.cli")
START_SECONDS = 30.0
STOP_SECONDS = 40.0


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class DaemonFailed(AssertionError):
    """The daemon ended, or did not answer in time; the text holds what it printed."""


class Daemon:
    """Starts, asks, kills and restarts one node below a folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.smtp_port = free_port()
        self.http_port = free_port()
        self.file = folder / "node.toml"
        self.output = folder / "daemon.out"
        self.process: subprocess.Popen[bytes] | None = None
        self.settings = {
            "node.data": "data",
            "smtp.listen": f"127.0.0.1:{self.smtp_port}",
            "http.listen": f"127.0.0.1:{self.http_port}",
            "http.requests_per_second": 10_000.0,
            "http.request_burst": 100_000,
        } | {name.replace("__", "."): value for name, value in settings.items()}
        self.configure()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def configure(self) -> None:
        """Write the configuration file."""
        tables: dict[str, dict[str, Any]] = {}
        for name, value in self.settings.items():
            table, _, member = name.rpartition(".")
            tables.setdefault(table, {})[member] = value
        lines = []
        for table, members in tables.items():
            lines.append(f"[{table}]")
            lines += [f"{member} = {json.dumps(value)}" for member, value in members.items()]
        self.file.write_text("\n".join(lines) + "\n")

    def start(self, environment: dict[str, str] | None = None) -> Daemon:
        """Start the daemon and wait until both doors answer."""
        self.spawn(environment)
        self.wait_for(self._answers, "the daemon does not answer")
        return self

    def spawn(self, environment: dict[str, str] | None = None) -> None:
        """Start the daemon and wait for nothing."""
        self.process = self.popen("run", environment=environment)

    def popen(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Begin a command of the command line; what it prints goes where the daemon prints."""
        with self.output.open("ab") as output:
            return subprocess.Popen(
                [*COMMAND, "--config", str(self.file), *arguments],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env=os.environ | (environment or {}),
                cwd=Path(__file__).parent.parent,
            )

    def _answers(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise DaemonFailed(f"the daemon ended: {self.printed()}")
        return self.is_listening()

    def is_listening_or_over(self) -> bool:
        """Whether the doors can be connected to, or the process has ended."""
        return (self.process is not None and self.process.poll() is not None) or self.is_listening()

    def is_listening(self) -> bool:
        """Whether both doors can be connected to."""
        try:
            for port in (self.http_port, self.smtp_port):
                socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    def printed(self) -> str:
        return self.output.read_text(errors="replace")

    def kill(self) -> None:
        """End it the hard way, as a power cut to the process would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it the polite way; return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line on this node."""
        return subprocess.run(
            [*COMMAND, "--config", str(self.file), *arguments],
            capture_output=True,
            text=True,
            check=check,
            timeout=120,
            cwd=Path(__file__).parent.parent,
        )

    def account(self, email: str = "someone@alpha.example") -> dict[str, Any]:
        """Add an account and return its key file."""
        answer = json.loads(self.command("account", "add", email, "--json").stdout)
        content: dict[str, Any] = json.loads(Path(answer["keyFile"]).read_text())
        return content

    def send(self, raw: bytes, to: str = "someone@alpha.example", sender: str = "bob@beta.example") -> str:
        """Hand in one mail by SMTP; return the reply to the data."""
        with smtplib.SMTP("127.0.0.1", self.smtp_port, timeout=30) as client:
            client.ehlo("client.example")
            client.mail(sender)
            code, text = client.rcpt(to)
            if code != 250:
                raise smtplib.SMTPResponseException(code, text)
            code, text = client.data(raw)
            if code != 250:
                raise smtplib.SMTPResponseException(code, text)
            return text.decode()

    def get(self, path: str, account: dict[str, Any] | None = None, **query: Any) -> Any:
        """Ask the HTTP door for JSON; with an account's database password if one is given."""
        return self.request("GET", path, account)

    def request(self, method: str, path: str, account: dict[str, Any] | None = None, body: Any = None) -> Any:
        request = urllib.request.Request(self.url + path, method=method)
        if account:
            pair = f"{account['address']}:{account['databasePassword']}"
            request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read())

    def status(self, method: str, path: str, account: dict[str, Any], body: Any) -> int:
        """The status of an answer, whatever it is."""
        try:
            self.request(method, path, account, body)
        except urllib.error.HTTPError as error:
            return error.code
        return 201

    def documents(self, account: dict[str, Any]) -> dict[str, Any]:
        """All documents of an account's database by id."""
        rows = self.get(f"/{account['database']}/_all_docs?include_docs=true", account)["rows"]
        return {row["id"]: row["doc"] for row in rows}

    def ask(self, operation: str, **arguments: Any) -> Any:
        """Carry out an operation through the operator's socket, without a command in between."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(60)
            client.connect(str(self.data / "admin.sock"))
            connection = HTTPConnection("node")
            connection.sock = client
            connection.request("POST", f"/{operation}", json.dumps(arguments))
            lines = connection.getresponse().read().splitlines()
        return json.loads(lines[-1])["answer"]

    def settled(self) -> bool:
        """Whether everything accepted is filed and visible."""
        answer = self.ask("status")
        return not answer["backlog"] and not any(view["lag"] for view in answer["views"].values())

    def wait_for(self, condition: Callable[[], Any], why: str, seconds: float = START_SECONDS) -> Any:
        """Poll a condition of another process until it holds."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := condition():
                    return found
            except (ConnectionError, urllib.error.URLError):
                found = None
            if time.monotonic() > deadline:
                raise DaemonFailed(f"{why}: {self.printed()[-4000:]}")
            time.sleep(0.02)


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Daemon]:
    """Run a daemon for the length of a block."""
    daemon = Daemon(folder, **settings)
    try:
        yield daemon.start()
    finally:
        daemon.end()
