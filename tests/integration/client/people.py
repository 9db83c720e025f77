"""Alice, Bob and Mallory with the keys of their words, and the JavaScript client as a process."""

from __future__ import annotations

import base64
import json
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Any

from node.crypto.did_documents import ServerEndpoints, user_document
from tests.client.python.contact import Contact
from tests.client.python.errors import Refused
from tests.client.python.keys import Keys
from tests.client.python.message import Incoming, open_document

DRIVE = Path(__file__).with_name("drive.mjs")
SERVER_ADDRESS = "0x" + "5" * 40


class Person:
    """Somebody with words, an account on a node, and both libraries."""

    def __init__(self, words: str, domain: str) -> None:
        self.words = words
        self.domain = domain

    @cached_property
    def keys(self) -> Keys:
        return Keys.from_mnemonic(self.words)

    @cached_property
    def document(self) -> dict[str, Any]:
        endpoints = ServerEndpoints(self.domain)
        return user_document(self.keys.signing_key, self.keys.agreement_key, SERVER_ADDRESS, endpoints)

    @cached_property
    def contact(self) -> Contact:
        return Contact.of(self.document)

    def open(self, document: dict[str, Any]) -> Incoming:
        return open_document(document, self.contact, self.keys)


ALICE = Person(("abandon " * 11) + "about", "mio.alpha.example")
BOB = Person(
    "legal winner thank year wave sausage worth useful legal winner thank yellow", "mio.beta.example"
)
MALLORY = Person(
    "letter advice cage absurd amount doctor acoustic avoid letter advice cage above", "mio.evil.example"
)


class JavaScript:
    """The other library; `ask` raises Refused where it does."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            ["node", str(DRIVE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, call: str, **request: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"call": call, **request}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "refused" in answer:
            raise Refused(answer["refused"])
        return answer["answer"]

    def open(self, who: Person, document: dict[str, Any]) -> Any:
        return self.ask("open", document=document, me=who.document, words=who.words)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)


def to64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def stored(request: dict[str, Any]) -> dict[str, Any]:
    """The document that a receiving node makes of a `senddid` request (wire spec section 6.4)."""
    message = {"id": "f" * 64, "thid": "f" * 64} | request["didCommMessage"]
    return {
        "_id": message["id"],
        "id": message["id"],
        "from": message["from"],
        "didCommMessage": message,
        "folder": "inbox",
    }
