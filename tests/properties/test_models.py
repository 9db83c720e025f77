"""Random commands against each aggregate, through its actor and a log, and against a model of a few lines."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from actors import account, handshake, mailbox
from actors.messages import Consult, Execute, Inspect
from actors.runtime.aggregate import fold
from events import account as accounts
from events import handshake as handshakes
from events import mailbox as mailboxes
from events.account import Account, OpenAccount, Passkey
from events.errors import MailioError
from events.handshake import ForgetHandshake, RecordHandshake, Terms
from events.identity import handshake_id
from events.log.log import Origin
from events.mailbox import (
    CreateFolder,
    DocumentDraft,
    FileMessage,
    Mailbox,
    RemoveFolder,
    RenameFolder,
    ShowInterest,
    WriteDocuments,
)
from events.offer import MakeOffer, RedeemOffer
from events.policy import Folder, Standing, Transport
from tests.factories import account_opened
from tests.fakes.memory_log import MemoryLog
from tests.properties.machinery import OWNERS, SENDERS, Machinery

OWNER = OWNERS[0]
QUOTA = 1_000
names = st.sampled_from(["Family", "Work", "Inbox", "", "Work "])
folder_ids = st.sampled_from(["f1", "f2", "inbox"])
senders = st.sampled_from(SENDERS)
small = st.integers(0, 3)
moments = st.integers(1, 4)
"""Times (ms); 0, the beginning of 1970, says that something has not happened."""


class Modelled(RuleBasedStateMachine):
    """An actor on a log in memory; `tell` carries out a command and says whether it was allowed."""

    kind: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.log = MemoryLog()
        self.machinery = self.loop.run_until_complete(self._start())

    async def _start(self) -> Machinery:
        return Machinery(self.log)

    def ask(self, message: object) -> Any:
        return self.loop.run_until_complete(self.machinery.system.ask(self.kind, OWNER, message))

    def tell(self, command: object) -> bool:
        try:
            self.ask(Execute(command, Origin(actor="model")))
        except MailioError:
            return False
        return True

    @property
    def state(self) -> Any:
        return self.ask(Inspect())

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.machinery.close())
        self.machinery = self.loop.run_until_complete(self._start())

    def teardown(self) -> None:
        self.loop.run_until_complete(self.machinery.close())
        self.loop.close()


class MailboxModel(Modelled):
    """The model: bytes used, messages and distinct interesting ones by sender, names by folder id."""

    kind = mailbox.KIND

    def __init__(self) -> None:
        super().__init__()
        self.used = 0
        self.received: Counter[str] = Counter()
        self.interest: set[tuple[str, str]] = set()
        self.folders: dict[str, str] = {}

    @rule(sender=senders, size=st.integers(0, 300))
    def file(self, sender: str, size: int) -> None:
        before = self.used
        command = FileMessage(
            id="i", mail="m", transport=Transport.SMTP, sender=sender, standing=Standing.UNKNOWN,
            document="d", size=size, filed_at=1,
        )  # fmt: skip
        assert self.tell(command), "what was accepted is filed, full or not"
        self.received[sender] += 1
        self.used = self.state.used
        assert self.used - before >= size

    @rule(size=st.integers(0, 400), replaced=st.integers(0, 400))
    def write(self, size: int, replaced: int) -> None:
        draft = DocumentDraft(id="d", revisions=("1-a",), kind="own", size=size, replaced=replaced)
        fits = size <= replaced or self.used + size - replaced <= QUOTA
        assert self.tell(WriteDocuments((draft,), 1, QUOTA)) == fits
        if fits:
            self.used = max(0, self.used + size - replaced)

    @rule(sender=senders, message=st.sampled_from("xyz"))
    def show_interest(self, sender: str, message: str) -> None:
        assert self.tell(ShowInterest(sender, message))
        self.interest.add((sender, message))

    @rule(ident=folder_ids, name=names)
    def create_folder(self, ident: str, name: str) -> None:
        allowed = ident not in self.folders and self._is_free(name)
        assert self.tell(CreateFolder(ident, name, 1)) == allowed
        if allowed:
            self.folders[ident] = name.strip()

    @rule(ident=folder_ids, name=names)
    def rename_folder(self, ident: str, name: str) -> None:
        known = ident in self.folders and ident not in set(Folder)
        allowed = known and (self.folders[ident] == name.strip() or self._is_free(name))
        assert self.tell(RenameFolder(ident, name, 1)) == allowed
        if allowed:
            self.folders[ident] = name.strip()

    @rule(ident=folder_ids, messages=st.integers(0, 1))
    def remove_folder(self, ident: str, messages: int) -> None:
        allowed = ident in self.folders and ident not in set(Folder) and not messages
        assert self.tell(RemoveFolder(ident, messages)) == allowed
        if allowed:
            del self.folders[ident]

    def _is_free(self, name: str) -> bool:
        name = name.strip()
        return bool(name) and name.lower() not in set(Folder) and name not in self.folders.values()

    @invariant()
    def agrees(self) -> None:
        state: Mailbox = self.state
        assert (state.used, state.folders) == (self.used, self.folders)
        assert state.filed == self.received.total()
        for sender in SENDERS:
            other = state.correspondent(sender)
            liked = {message for who, message in self.interest if who == sender}
            assert (other.received, len(other.interest)) == (self.received[sender], len(liked))

    @invariant()
    def is_the_fold_of_its_log(self) -> None:
        records = self.loop.run_until_complete(self.log.stream(mailboxes.stream(OWNER)))
        assert fold(mailboxes.evolve, mailboxes.initial(OWNER), records) == self.state


class BookModel(Modelled):
    """The model: of each sender, the newest document that was not removed."""

    kind = handshake.KIND

    def __init__(self) -> None:
        super().__init__()
        self.book: dict[str, tuple[int, str]] = {}
        self.offers: dict[str, str] = {}

    @rule(sender=senders, status=st.sampled_from(["accepted", "revoked", "request", "other"]), at=small)
    def record(self, sender: str, status: str, at: int) -> None:
        identifier = handshake_id(OWNER, sender)
        assert self.tell(RecordHandshake(Terms(id=identifier, status=status, created=at)))
        if status == "other":
            self.book.pop(sender, None)
        elif at >= self.book.get(sender, (0, ""))[0]:
            self.book[sender] = (at, status)

    @rule(name=st.sampled_from("abc"), at=moments)
    def offer(self, name: str, at: int) -> None:
        if self.offers.get(name) is None:
            assert self.tell(MakeOffer(name, at, 100, 3))
            self.offers[name] = ""

    @rule(name=st.sampled_from("abc"), message=st.sampled_from(["m", "n"]), at=moments)
    def redeem(self, name: str, message: str, at: int) -> None:
        """The first message that uses an offer has it, as often as it comes."""
        counts = self.offers.get(name) in {"", message}
        assert self.tell(RedeemOffer(name, "did", message, at)) is counts
        if counts:
            self.offers[name] = message

    @rule(sender=senders)
    def forget(self, sender: str) -> None:
        assert self.tell(ForgetHandshake(handshake_id(OWNER, sender)))
        self.book.pop(sender, None)

    @invariant()
    def agrees(self) -> None:
        for sender in SENDERS:
            consent = self.ask(Consult(sender))
            assert consent.standing == self.book.get(sender, (0, "unknown"))[1]

    @invariant()
    def is_the_fold_of_its_log(self) -> None:
        records = self.loop.run_until_complete(self.log.stream(handshakes.stream(OWNER)))
        assert fold(handshakes.evolve, handshakes.initial(OWNER), records) == self.state


class AccountModel(Modelled):
    """The model: whether it is open and enabled, its passkeys' counters, password, profile, dead tokens."""

    kind = account.KIND

    def __init__(self) -> None:
        super().__init__()
        self.opened = self.enabled = False
        self.password = ""
        self.passkeys: dict[str, int] = {}
        self.revoked: set[str] = set()
        self.profile: dict[str, str] = {}

    @initialize(early=st.booleans())
    def perhaps_open(self, early: bool) -> None:
        if early:
            self.open()

    @rule()
    def open(self) -> None:
        opened = account_opened(address=OWNER, password_hash="first", display_name="")
        assert self.tell(OpenAccount(opened=opened)) == (not self.opened)
        if not self.opened:
            self.opened, self.enabled, self.password = True, True, "first"

    @rule(enable=st.booleans())
    def switch(self, enable: bool) -> None:
        command = accounts.EnableAccount() if enable else accounts.DisableAccount("because")
        assert self.tell(command) == self.opened
        self.enabled = self.opened and enable

    @rule(password=st.sampled_from(["one", "two"]))
    def change_password(self, password: str) -> None:
        assert self.tell(accounts.ChangeDatabasePassword(password)) == self.opened
        self.password = password if self.opened else ""

    @rule(ident=st.sampled_from("pq"), count=small)
    def add_passkey(self, ident: str, count: int) -> None:
        allowed = self.opened and ident not in self.passkeys
        command = accounts.AddPasskey(Passkey(id=ident, public_key="k", sign_count=count))
        assert self.tell(command) == allowed
        if allowed:
            self.passkeys[ident] = count

    @rule(ident=st.sampled_from("pq"), count=small)
    def use_passkey(self, ident: str, count: int) -> None:
        known = self.passkeys.get(ident)
        allowed = known is not None and (count > known or count == known == 0)
        assert self.tell(accounts.UsePasskey(ident, count)) == allowed
        if allowed:
            self.passkeys[ident] = count

    @rule(token=st.sampled_from("tu"), expires=small, now=small)
    def revoke_token(self, token: str, expires: int, now: int) -> None:
        assert self.tell(accounts.RevokeToken(token, expires, now)) == self.opened
        if self.opened and expires > now:
            self.revoked.add(token)

    @rule(name=st.sampled_from(["Ada", ""]), member=st.sampled_from(["displayName", "secret"]))
    def change_profile(self, name: str, member: str) -> None:
        allowed = self.opened and member == "displayName"
        assert self.tell(accounts.ChangeProfile({member: name}, {}, 1)) == allowed
        if allowed:
            self.profile = {member: name} if name else {}

    @invariant()
    def agrees(self) -> None:
        state: Account = self.state
        assert (state.opened is not None, state.enabled) == (self.opened, self.enabled)
        assert (state.password_hash, state.profile) == (self.password, self.profile)
        assert {ident: key.sign_count for ident, key in state.passkeys.items()} == self.passkeys
        assert set(state.revoked) == self.revoked

    @invariant()
    def is_the_fold_of_its_log(self) -> None:
        records = self.loop.run_until_complete(self.log.stream(accounts.stream(OWNER)))
        assert fold(accounts.evolve, accounts.initial(OWNER), records) == self.state


@pytest.mark.parametrize("model", [MailboxModel, BookModel, AccountModel])
def test_an_aggregate_agrees_with_its_model(model: type[Modelled]) -> None:
    case = model.TestCase
    case.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
    case("runTest").debug()
