"""What happens in the demo, step by step. Each step raises NotSeen when something does not hold."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from functools import partial
from typing import Any, Final

import msgspec

from node.cli.statements import Keys, Statement, signed
from tests.demo.place import Place, together
from tests.demo.telling import NotSeen, Telling, shortened
from tests.demo.wire import Between

SECRET: Final = "It lies under the third stone."
FILE: Final = b"%PDF-1.4 a map that nobody else may see\n" * 500
FILE_NAME: Final = "map.pdf"
CUT_SECONDS: Final = 30.0
"""How long the second message may take to get to the place where beta is killed."""


class Story:
    """Alice lives on alpha, bob on beta."""

    def __init__(self, telling: Telling, between: Between, alpha: Place, beta: Place) -> None:
        self._telling = telling
        self._between = between
        self.alpha = alpha
        self.beta = beta
        self.places = (alpha, beta)

    def run(self) -> None:
        """All steps."""
        self.start()
        self.publish()
        self.enter()
        self.shake_hands()
        self.write()
        self.die()
        self.rebuild()
        self.stop()

    def start(self) -> None:
        told = self._telling
        told.step("Two nodes start, each with its own folder, and know nothing of each other")
        for place in self.places:
            place.daemon.spawn()
        for place in self.places:
            place.daemon.wait_for(place.daemon.is_listening_or_over, "the daemon does not answer")
            told.say(
                place.name, f"mailio-node run: process {place.pid}, {place.daemon.url} is {place.domain}"
            )
        answers = [place.daemon.is_listening() for place in self.places]
        told.check(all(answers), "both answer", [place.daemon.printed()[-500:] for place in self.places])

    def publish(self) -> None:
        told = self._telling
        told.step("Each says what has to stand in DNS (mailio-node dns); a small DNS server publishes it")
        zones = together(*(place.zone for place in self.places))
        for place, zone in zip(self.places, zones, strict=True):
            record = next(line for line in zone if "v=MAILIO1" in line)
            told.say(place.name, shortened(" ".join(record.split())))
        text = "\n".join(line for zone in zones for line in zone) + "\n"
        self._between.run(self._between.publish(text))
        seen = together(*(partial(place.command, "dns") for place in self.places))
        states = {record["state"] for one in seen for record in one["records"]}
        told.check(states == {"fine"}, "mailio-node dns finds published what it wants", states)

    def enter(self) -> None:
        told = self._telling
        told.step("alice comes to alpha, bob to beta; each has a PouchDB that syncs with the own node only")
        together(*(place.enter for place in self.places))
        for place in self.places:
            told.say(place.user, f"mailio-node account add {place.email}: {shortened(place.client.did)}")
        dids = [f"did:web:{place.domain}#{place.keys['address']}" for place in self.places]
        logged_in = [place.client.did for place in self.places]
        told.check(logged_in == dids, "both clients have logged in with their keys and sync", logged_in)

    # The handshake

    def shake_hands(self) -> None:
        told, alice, bob = self._telling, self.alpha.client, self.beta.client
        told.step("Handshake: a stranger may ask once, by a link; the owner's signed answer lets them in")
        link = bob.do("offer")
        told.say("bob", f"makes a link and passes it on: {shortened(link)}")
        asked = alice.do("ask", link=link, subject="It is alice", text="May I write to you?")
        request = bob.do("received", id=asked)
        told.say("bob", f"finds it {_where(request)}, {request['subject']!r}: {request['text']!r}")
        told.check(
            (request["folder"], request["reason"]) == ("handshake", "handshake_requested"),
            "alice's request waits for bob's answer, outside of his inbox", _where(request),
        )  # fmt: skip
        again = alice.do("ask", link=link, subject="Again", text="And once more?")
        refused = alice.do("delivery", id=again, state="failed")
        told.check(refused["code"].startswith("5."), f"the link works once: {_status(refused)}", refused)
        self._accept(alice.did)
        answer = alice.do("received", id=bob.do("answer", to=alice.did, subject="Yes", text="Do write."))
        told.check(answer["from"] == bob.did, f"alice's client has bob's answer: {answer['text']!r}", answer)

    def _accept(self, did: str) -> None:
        """Have bob's client write what he signs: his node can't say it for him."""
        told, beta = self._telling, self.beta
        keys = msgspec.convert(beta.keys, Keys)
        document = signed(keys, did, Statement(status="accepted", level="personal"), beta.domain)
        beta.client.do("put", doc=document)
        told.say(
            "bob", f"signs document {document['_id'][:12]}…: accepted, level personal; his PouchDB pushes it"
        )
        entry = beta.daemon.wait_for(lambda: self._entry(document["_id"]), "the handshake is not in the book")
        told.check(
            entry["status"] == "accepted", "beta has verified the signature: it is in bob's book", entry
        )

    def _entry(self, ident: str) -> Any:
        book = self.beta.daemon.ask("handshake.list", name=self.beta.email)["handshakes"]
        return next((one for one in book if one["id"] == ident), None)

    # The message

    def write(self) -> None:
        told, alice, bob = self._telling, self.alpha.client, self.beta.client
        told.step("alice writes to bob: encrypted in her client, opened in his, and in no other place")
        began = time.monotonic()
        file = {"name": FILE_NAME, "type": "application/pdf", "content": base64.b64encode(FILE).decode()}
        sent = alice.do("send", to=bob.did, subject="The map", text=SECRET, file=file)
        told.say("alice", f"hands message {sent[:12]}… with {FILE_NAME} ({len(FILE):,} bytes) to alpha")
        got = bob.do("received", id=sent)
        milliseconds = (time.monotonic() - began) * 1000
        told.say(
            "bob", f"finds it {_where(got)} after {milliseconds:.0f} ms, {got['subject']!r}: {got['text']!r}"
        )
        told.check(
            (got["text"], got["folder"], got["reason"]) == (SECRET, "inbox", "handshake_accepted"),
            "it is in the inbox because of the handshake, and its author is proven", got,
        )  # fmt: skip
        self._same_file(got["files"])
        self._unreadable()
        receipt = alice.do("delivery", id=sent, state="delivered", confirmed=True)
        told.say(
            "alice", f"finds in her database beside what she sent: {receipt['state']}, {_status(receipt)}"
        )
        told.check(
            receipt["confirmed"], "the receipt is back: beta took it, and says that it was filed", receipt
        )

    def _same_file(self, files: list[dict[str, Any]]) -> None:
        found = [(one["name"], base64.b64decode(one["content"])) for one in files]
        digest = hashlib.sha256(FILE).hexdigest()
        same = found == [(FILE_NAME, FILE)]
        self._telling.check(
            same, f"the attachment is the same to the byte, SHA-256 {digest[:16]}…", len(files)
        )

    def _unreadable(self) -> None:
        """Look for the text in all that the nodes serve and store."""
        files = [file for place in self.places for file in place.daemon.data.rglob("*") if file.is_file()]
        told = {str(file): file.read_bytes() for file in files}
        told |= {place.name: json.dumps(place.daemon.documents(place.keys)).encode() for place in self.places}
        leaks = [name for name, content in told.items() if SECRET.encode() in content]
        text = f"the text is in nothing that the two nodes serve, and in none of their {len(files)} files"
        self._telling.check(not leaks, text, leaks)

    # The crash

    def die(self) -> None:
        told, alpha, beta = self._telling, self.alpha, self.beta
        told.step("beta is killed in the middle of a delivery: it has the message, alpha has not heard so")
        wire = self._between.wire
        before, victim = wire.messages, beta.pid
        wire.cut_by = beta.kill
        sent = alpha.client.do("send", to=beta.client.did, subject="Second", text="Did this come?")
        took = wire.was_cut.wait(CUT_SECONDS) and wire.swallowed.startswith(b"HTTP/1.1 202 ")
        told.check(took, f"kill -9 {victim}: it had the message, its receipt got lost", wire.swallowed[:40])
        beta.daemon.kill()
        shown = alpha.daemon.wait_for(partial(self._queue, sent, "DeliveryDeferred"), "alpha waits for ever")
        seen = alpha.client.do("delivery", id=sent)
        told.say("alice", f"sees in her database: {seen['state']}, {_status(seen)}")
        told.check(shown["next"] > shown["scheduled"], "alpha keeps it, and will try again", shown)
        beta.daemon.start()
        told.say("beta", f"mailio-node run again: process {beta.pid}")
        got = beta.client.do("received", id=sent)
        told.say("bob", f"finds it {_where(got)}, {got['subject']!r}: {got['text']!r}")
        self._delivered(sent, before)

    def _delivered(self, sent: str, before: int) -> None:
        told, alpha, beta = self._telling, self.alpha, self.beta
        shown = alpha.daemon.wait_for(partial(self._queue, sent, "MessageDelivered"), "alpha still tries")
        alpha.client.do("delivery", id=sent, state="delivered", confirmed=True)
        attempts, posted = shown["attempts"], self._between.wire.messages - before
        told.say(
            "alpha",
            f"queue show: {shown['state']} at attempt {attempts}; it came to beta {posted} times",
        )
        told.check(attempts > 1 and posted > 1, "alpha had to send it again", shown)
        beta.daemon.wait_for(beta.daemon.settled, "beta has not filed everything")
        self._synced()
        copies = beta.client.do("copies", id=sent)
        told.check(copies == 1, "bob has it exactly once", f"{copies} copies")

    def _queue(self, sent: str, event: str) -> Any:
        """Return what alpha's queue says of a message, once an event of this type has happened to it."""
        shown = self.alpha.daemon.ask("queue.show", id=f"{self.beta.domain}:{sent}")
        return shown if any(one["type"] == event for one in shown["history"]) else None

    # The rebuild

    def rebuild(self) -> None:
        told = self._telling
        told.step("All that the clients see is thrown away and made again from the logs")
        held = self._synced()
        reports = together(*(partial(place.command, "rebuild") for place in self.places))
        for place, views in zip(self.places, reports, strict=True):
            shown = ", ".join(f"{one['view']} {one['documents']}" for one in views)
            told.say(place.name, f"mailio-node rebuild: {shown} documents")
        different = [one for views in reports for one in views if one["differences"] or one["damaged"]]
        told.check(not different, "the new documents are those that were there", different)
        fresh = [place.client.do("fresh") for place in self.places]
        same = fresh == [one["revisions"] for one in held]
        told.check(same, "a new device of each gets the same documents in the same revisions", fresh)
        after = [place.client.do("holds") for place in self.places]
        told.check(after == held, "alice's and bob's PouchDB had nothing to fetch", after)

    def _synced(self) -> list[dict[str, Any]]:
        """Wait until each client has what its node has; return what they hold."""
        return [place.daemon.wait_for(partial(_held, place), "a client is behind") for place in self.places]

    def stop(self) -> None:
        told = self._telling
        told.step("Both nodes are asked to stop")
        codes = together(*(place.daemon.stop for place in self.places))
        told.check(codes == [0, 0], "both finished what was begun, exit code 0", codes)
        noise = [place.name for place in self.places if "Traceback" in place.daemon.printed()]
        if noise:
            raise NotSeen(f"a traceback in what {' and '.join(noise)} printed")


def _held(place: Place) -> Any:
    if not place.daemon.settled():
        return None
    held = place.client.do("holds")
    return held if held["revisions"] == place.client.do("fresh") else None


def _where(message: dict[str, Any]) -> str:
    return f"in {message['folder']} ({message.get('reason') or 'no reason'})"


def _status(recipient: dict[str, Any]) -> str:
    return f"{recipient.get('code', '')} {recipient.get('reason', '')}".strip()
