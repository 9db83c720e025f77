"""A drill: a node under load dies at failpoints, comes back, and is looked at."""

from __future__ import annotations

import asyncio
import base64
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

from events.identity import userdb_name
from events.log.failpoints import VARIABLE
from node.admin.operations import account_add
from node.core import Core
from node.crypto.keys import UserKeys
from node.rebuild import rebuild_aside
from node.settings import Settings, load
from tests.crash.checks import check
from tests.crash.traffic import SERVER, Book, Client, Correspondent, Sender, Traffic, Writer
from tests.daemon import Daemon

MAILBOXES = ("ann@alpha.example", "ben@alpha.example", "cid@alpha.example")
DEATH_SECONDS = 60.0
RESTART_SECONDS = 10.0
IDLE_IMPORT_SECONDS = 0.8
PASSWORD = "a password for the database"

PROMISES = 20
"""Acknowledgements before something is done to a node, so that there is something to lose."""

AT_FIRST_START = ("log-created", "key-aside-written", "keys-written")
"""Reached by the first start of a node only, in this order."""
AT_REBUILD = ("swap-completed", "swap-renamed", "swap-linked", "swap-pointed", "swap-done")
IN_COMMAND = ("rebuild-built",)
AT_STOP = (("blobs-closed", 1), ("mark-written", 2), ("mark-replaced", 2))
"""With the hit that a stop is."""
LARGE_MAIL = {"view-log-moved": 500_000}
"""Bytes of a mail for failpoints that only a lot of data reaches."""


class NeverReached(AssertionError):
    """The node went on living: the failpoint is not on the way that the drill goes."""


class Drill:
    """A node, its users, and all that was ever promised to them."""

    def __init__(self, folder: Path) -> None:
        self.daemon = Daemon(folder, node__server_domain=SERVER, delivery__first_seconds=0.2)
        self.settings = load(self.daemon.file).settings
        self.accounts: dict[str, dict[str, str]] = {}
        self.book = Book()
        self._strikes = 0

    def strike(self, failpoint: str, hit: int) -> None:
        """Let the node, which is not running, die at a failpoint."""
        self._strikes += 1
        armed = {VARIABLE: f"{failpoint}:{hit}"}
        if failpoint not in AT_FIRST_START and not self.accounts:
            self._open_accounts()
        self.daemon.spawn({} if failpoint in IN_COMMAND else armed)
        if not self._answers_before_death():
            return
        traffic = self._traffic(LARGE_MAIL.get(failpoint, 200))
        try:
            self._provoke(failpoint, hit, traffic)
        finally:
            self.daemon.end()
            self.book.take([traffic.end()])

    def look(self) -> None:
        """Start the node again, and check everything that it ever promised; stop it."""
        self._come_back()
        check(self.settings, self.accounts, self.book)
        assert self.daemon.stop() == 0

    def _provoke(self, failpoint: str, hit: int, traffic: Traffic) -> None:
        """Do under load what leads to the failpoint, until the process is dead."""
        if failpoint in (*IN_COMMAND, *AT_REBUILD) or (failpoint, hit) in AT_STOP:
            self._wait(lambda: traffic.acknowledged >= PROMISES, failpoint)
        if failpoint in IN_COMMAND:
            self._rebuild_and_die({VARIABLE: f"{failpoint}:{hit}"})
        elif failpoint in AT_REBUILD:
            self._wait(self._rebuilt_until_dead, failpoint)
        else:
            if (failpoint, hit) in AT_STOP:
                self._process.send_signal(signal.SIGTERM)
            self._wait(self._dead, failpoint)

    def _rebuild_and_die(self, armed: dict[str, str]) -> None:
        """The command dies, then the daemon."""
        command = self.daemon.popen("rebuild", "userdb", environment=armed)
        assert command.wait(DEATH_SECONDS) == -signal.SIGKILL
        self.daemon.kill()

    def _rebuilt_until_dead(self) -> bool:
        """Rebuild a view and have it swapped in; tell whether the daemon died of it."""
        with suppress(OSError, HTTPException):
            rebuild_aside(self.settings, ["userdb"], lambda *_: None)
            self.daemon.ask("view.swap", views=["userdb"])
        return self._dead()

    def _traffic(self, size: int) -> Traffic:
        run, smtp, http = self._strikes, self.daemon.smtp_port, self.daemon.http_port
        clients: list[Client] = [Sender(smtp, f"s{run}-{n}", MAILBOXES, size) for n in range(4)]
        clients += [Writer(http, f"w{run}-{n}", account) for n, account in enumerate(self.accounts.values())]
        clients.append(Correspondent(http, f"c{run}", MAILBOXES[0], self.accounts))
        return Traffic(clients)

    def _open_accounts(self) -> None:
        """In this process: a daemon that is started for it, and stopped again, proves nothing here."""
        self.accounts = asyncio.run(_opened_accounts(self.settings))

    def _come_back(self) -> None:
        began = time.monotonic()
        self.daemon.start()
        took = time.monotonic() - began
        assert took < RESTART_SECONDS * slowness(took), f"the restart took {took:.1f} s"
        self.daemon.wait_for(self._settled, "accepted mail is not filed")

    def _settled(self) -> bool:
        """Whether everything is filed, visible, delivered and reported."""
        return self.daemon.settled() and not self.daemon.ask("queue.list")["total"] and self.daemon.settled()

    @property
    def _process(self) -> subprocess.Popen[bytes]:
        assert self.daemon.process is not None
        return self.daemon.process

    def _dead(self) -> bool:
        code = self._process.poll()
        if code is None:
            return False
        assert code == -signal.SIGKILL, f"ended with {code}: {self.daemon.printed()[-2000:]}"
        return True

    def _answers_before_death(self) -> bool:
        """Wait until the node answers, or is dead; tell which."""
        while not self._dead():
            if self.daemon.is_listening():
                return True
            time.sleep(0.02)
        return False

    def _wait(self, condition: Callable[[], bool], failpoint: str) -> None:
        deadline = time.monotonic() + DEATH_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise NeverReached(failpoint)
            time.sleep(0.02)


def slowness(took: float) -> float:
    """How many times slower the machine is now than an idle one, as a start of Python tells; 1 at least."""
    if took < RESTART_SECONDS:
        return 1.0
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import node.daemon"], check=True)
    return max(1.0, (time.monotonic() - began) / IDLE_IMPORT_SECONDS)


async def _opened_accounts(settings: Settings) -> dict[str, dict[str, str]]:
    core = Core(settings)
    await core.start()
    try:
        return {email: await _opened_account(core, email) for email in MAILBOXES}
    finally:
        await core.close()


async def _opened_account(core: Core, email: str) -> dict[str, str]:
    new = _new_account(email)
    account = _for_clients([answer async for answer in account_add(core, new)][-1])
    key = base64.b64decode(new["signingKey"])
    return account | {"token": core.accounts.issue_token(account["address"], key, f"drill of {email}")}


def open_account(daemon: Daemon, email: str) -> dict[str, str]:
    """Open an account through the operator's socket; return what its clients need."""
    return _for_clients(daemon.ask("account.add", **_new_account(email)))


def _new_account(email: str) -> dict[str, str]:
    keys = UserKeys.generate()
    return {
        "email": email,
        "signingKey": base64.b64encode(keys.public_key).decode(),
        "agreementKey": base64.b64encode(keys.agreement_public_key).decode(),
        "databasePassword": PASSWORD,
        "displayName": "",
    }


def _for_clients(answer: dict[str, Any]) -> dict[str, str]:
    address = answer["address"]
    return {"address": address, "databasePassword": PASSWORD, "database": userdb_name(address)}
