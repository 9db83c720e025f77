"""The life of a handshake on the command line: approved, limited, rejected, revoked, listed, offered."""

from __future__ import annotations

import json

from tests.daemon import Daemon

OWNER = "someone@alpha.example"


def test_an_owner_approves_a_domain_limits_a_newsletter_and_lists_the_book(daemon: Daemon) -> None:
    daemon.account()
    handshake = ("handshake", "accept", OWNER)
    daemon.command(*handshake, "@shop.example")
    daemon.command(*handshake, "news@paper.example", "--purpose", "newsletter", "--minutes", "60")
    daemon.command(*handshake, "did:web:mio.beta.example#0x" + "b" * 40, "--level", "personal")
    daemon.command(*handshake, "asker@gamma.example")
    daemon.command("handshake", "reject", OWNER, "asker@gamma.example")
    for sender in ("orders@shop.example", "news@paper.example", "news@paper.example"):
        mail = f"From: {sender}\r\nSubject: hello\r\n\r\nhello\r\n"
        daemon.send(mail.encode(), OWNER, sender)
    daemon.wait_for(daemon.settled, "the mails are not filed")
    filed = daemon.command("mailbox", OWNER).stdout
    assert filed.count("handshake_accepted_unverified") == 2
    assert filed.count("frequency_exceeded") == 1
    book = json.loads(daemon.command("handshake", "list", OWNER, "--json").stdout)
    assert {(each["sender"], each["type"], each["level"]) for each in book["handshakes"]} == {
        ("@shop.example", "server", "none"),
        ("news@paper.example", "signup", "none"),
        ("0x" + "b" * 40, "user", "personal"),
    }
    shown = json.loads(daemon.command("handshake", "show", OWNER, "x@shop.example", "--json").stdout)
    assert (shown["sender"], shown["status"]) == ("@shop.example", "accepted")
    assert daemon.command("handshake", "show", OWNER, "asker@gamma.example", check=False).returncode == 1


def test_an_operator_makes_and_withdraws_links_and_the_log_says_who(daemon: Daemon) -> None:
    address = daemon.account()["address"]
    link = daemon.command("handshake", "offer", OWNER).stdout.strip()
    assert link.endswith(f":localhost:{address}")
    (offer,) = json.loads(daemon.command("handshake", "list", OWNER, "--json").stdout)["offers"]
    daemon.command("handshake", "withdraw", OWNER, offer["id"])
    refused = daemon.command("handshake", "withdraw", OWNER, offer["id"], check=False)
    assert (refused.returncode, "no open offer" in refused.stderr) == (1, True)
    told = daemon.command("log", "show", f"handshake-{address}").stdout
    assert told.count("operator") == 2
    default = json.loads(daemon.command("handshake", "default").stdout)
    assert (default["content"]["type"], default["content"]["status"]) == ("server", "accepted")


def test_what_can_not_be_meant_is_refused_in_one_line(daemon: Daemon) -> None:
    daemon.account()
    for sender, told in (("@", "@shop.example"), ("did:mailio:x", "did:web"), ("nobody", "invalid email")):
        refused = daemon.command("handshake", "accept", OWNER, sender, check=False)
        assert refused.returncode != 0
        assert told in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
