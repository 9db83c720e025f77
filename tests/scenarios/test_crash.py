"""`kill -9` anywhere: after a restart every acknowledged mail is filed exactly once."""

from __future__ import annotations

import json
import random
import smtplib
import threading
import time

import pytest

from tests.daemon import Daemon

MAILBOXES = ("ann@alpha.example", "ben@alpha.example", "cid@alpha.example")
SENDERS = 6
ROUNDS = 3


class Load(threading.Thread):
    """One client that sends numbered mails until the node goes away, and notes what was acknowledged."""

    def __init__(self, port: int, number: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.number = number
        self.acknowledged: set[tuple[str, str]] = set()
        self.tried: set[tuple[str, str]] = set()

    def run(self) -> None:
        count = 0
        try:
            with smtplib.SMTP("127.0.0.1", self.port, timeout=20) as client:
                client.ehlo("load.example")
                while True:
                    count += 1
                    self._send(client, MAILBOXES[count % len(MAILBOXES)], f"{self.number}-{count}-{id(self)}")
        except (OSError, smtplib.SMTPException):
            return

    def _send(self, client: smtplib.SMTP, to: str, name: str) -> None:
        raw = f"From: s{self.number}@beta.example\r\nTo: {to}\r\nSubject: {name}\r\n\r\n{name}\r\n".encode()
        client.mail(f"s{self.number}@beta.example")
        client.rcpt(to)
        self.tried.add((to, name))
        if client.data(raw)[0] == 250:
            self.acknowledged.add((to, name))


def subjects(daemon: Daemon, email: str) -> list[str]:
    messages = json.loads(daemon.command("mailbox", email, "--limit", "1000", "--json").stdout)
    return [message["subject"] for message in messages]


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_what_was_acknowledged_before_kill_9_is_filed_exactly_once(stopped: Daemon, seed: int) -> None:
    pause = random.Random(seed)
    daemon = stopped.start()
    for email in MAILBOXES:
        daemon.account(email)
    acknowledged: set[tuple[str, str]] = set()
    tried: set[tuple[str, str]] = set()
    for _ in range(2):
        clients = [Load(daemon.smtp_port, number) for number in range(SENDERS)]
        for client in clients:
            client.start()
        daemon.wait_for(lambda: any(c.acknowledged for c in clients), "nothing was acknowledged")  # noqa: B023
        time.sleep(pause.uniform(0, 0.4))  # the crash shall hit anywhere; nothing is waited for here
        daemon.kill()
        for client in clients:
            client.join(30)
        acknowledged |= set().union(*(client.acknowledged for client in clients))
        tried |= set().union(*(client.tried for client in clients))
        daemon.start()
    daemon.wait_for(daemon.settled, "accepted mail is not filed")
    filed = [(email, subject) for email in MAILBOXES for subject in subjects(daemon, email)]
    assert len(filed) == len(set(filed)), "a mail was filed twice"
    assert acknowledged <= set(filed), "an acknowledged mail is missing"
    assert set(filed) <= tried
    assert len(acknowledged) > 10
    report = json.loads(daemon.command("verify", "--json").stdout)
    assert not report["damaged"]
    rebuilt = json.loads(daemon.command("rebuild", "--json").stdout)
    assert [view["differences"] for view in rebuilt] == [0, 0, 0, 0]
