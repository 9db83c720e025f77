"""Taking responsibility: what every door asks before it says yes, and what it does just before.

`admit` answers for one envelope recipient, `accept` for a whole message. When `accept` returns, blob
and event are on disk; until then nothing has happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import msgspec

from actors.messages import Consult, Inspect
from events import mail, policy
from events.consent import NO_DEMANDS, Consent, Demands, consent_of_all
from events.errors import (
    Busy,
    Forbidden,
    Gone,
    MailboxDisabled,
    MailboxFull,
    MailioError,
    MailLoop,
    MalformedMessage,
    NotFound,
    TooFrequent,
)
from events.event import Recorded
from events.log import failpoints
from events.log.log import Clock, Log, Origin, Write
from events.mail import MailAccepted, Recipient
from events.mailbox import Mailbox
from events.policy import Case, Reason, Transport
from node.mime.limits import MimeLimits, Violation
from node.mime.structure import Structure, inspect
from node.owed import Debt, Owed
from node.smtp.ports import SessionFacts
from node.storage.blobs import Blobs
from projections.directory import AccountDirectory, AccountEntry

RUSH = 8
"""Messages accepted at once that make a rush: a small node sees one or two, many sessions share a sync."""

RUSH_MS = 500
"""How long a rush is remembered. The messages of one sync are all answered in the same moment, just when the
log tells of them: whoever looked then would see nobody in a hurry."""

MAX_AUTHORS = 10
"""Addresses of a From header that are looked at: honest mail has one, rarely two or three."""


class Actors(Protocol):
    """Where mailboxes and handshake books are asked."""

    async def ask(self, kind: str, key: str, message: object) -> object:
        """Ask one actor and wait for its answer."""


class Backlog(Protocol):
    """How much accepted mail still waits to be filed."""

    @property
    def backlog(self) -> int:
        """Events between the log's head and the finished work."""

    @property
    def low_water(self) -> int:
        """Position at and below which all work is finished."""


_REFUSALS: dict[Reason, type[MailioError]] = {
    Reason.NO_SUCH_MAILBOX: NotFound,
    Reason.MAILBOX_DISABLED: MailboxDisabled,
    Reason.MAILBOX_FULL: MailboxFull,
    Reason.SENDER_REVOKED: Forbidden,
    Reason.FREQUENCY_EXCEEDED: TooFrequent,
}

_PUBLIC = {
    Reason.NO_SUCH_MAILBOX: "no such mailbox here",
    Reason.MAILBOX_DISABLED: "mailbox is disabled",
    Reason.MAILBOX_FULL: "mailbox is full, try again later",
    Reason.SENDER_REVOKED: "the recipient does not accept mail from this sender",
    Reason.FREQUENCY_EXCEEDED: "the recipient has agreed to fewer mails of this sender, try again later",
}


def refusal(reason: Reason) -> MailioError:
    """Return the error with which a door tells a sender no."""
    return _REFUSALS[reason](_PUBLIC[reason])


MakeEvent = Callable[[str], MailAccepted]
"""Makes the event of an accepted mail, given the name of its blob."""


class Judged(msgspec.Struct, frozen=True):
    """What is known of a message for one mailbox, and so what becomes of it. `entry` is None for nobody."""

    entry: AccountEntry | None
    case: Case

    @property
    def reason(self) -> Reason | None:
        """Why the message is refused; None when it is not."""
        verdict = policy.judge(self.case)
        return verdict.reason if verdict.refused else None


class Acceptance:
    """Admits recipients and accepts messages for one node. Limits and quota come from the settings.

    `in_progress` counts the messages that are being accepted now.
    """

    def __init__(
        self,
        *,
        log: Log,
        blobs: Blobs,
        directory: AccountDirectory,
        actors: Actors,
        work: Backlog,
        clock: Clock,
        domain: str,
        quota: int,
        backlog_limit: int,
        mime: MimeLimits,
        demands: Demands = NO_DEMANDS,
    ) -> None:
        """`domain` completes `<postmaster>`; `quota` is in bytes, `backlog_limit` in events."""
        self._log = log
        self._blobs = blobs
        self._directory = directory
        self._actors = actors
        self._work = work
        self._clock = clock
        self._domain = domain
        self._quota = quota
        self._backlog_limit = backlog_limit
        self._mime = mime
        self._demands = demands
        self.in_progress = 0
        self._rushed_at = -RUSH_MS
        self._owed = Owed()

    def busy(self) -> bool:
        """Whether more accepted mail waits to be filed than the node should owe."""
        return self._work.backlog >= self._backlog_limit

    @property
    def hurried(self) -> bool:
        """Whether accepting should go before filing: a rush of mail, and room for it in the backlog."""
        rush = self.in_progress >= RUSH or abs(self._clock.now() - self._rushed_at) < RUSH_MS
        return rush and self._work.backlog < self._backlog_limit // 2

    async def admit(
        self, facts: SessionFacts, envelope_sender: str, recipient: str, declared_size: int
    ) -> Recipient:
        """Answer for one envelope recipient; raises the MailioError to refuse with."""
        entry = await self._directory.by_email(self._full(recipient))
        if entry is None or not entry.enabled:
            raise refusal(policy.judge(_absent(exists=entry is not None)).reason)
        owed = self._owed.to(entry.address, self._work.low_water)
        case = await self._case(entry.address, (envelope_sender,), declared_size, owed)
        verdict = policy.judge(case)
        if verdict.refused:
            raise refusal(verdict.reason)
        return Recipient(entry.address, entry.email, case.standing)

    def _full(self, recipient: str) -> str:
        """Give a bare `postmaster` (RFC 5321 section 4.5.1) the node's first domain."""
        return recipient if "@" in recipient else f"{recipient}@{self._domain}"

    async def _case(
        self,
        owner: str,
        senders: Iterable[str],
        size: int,
        owed: int,
        transport: Transport = Transport.SMTP,
    ) -> Case:
        """Return what the policy may know of a message from these senders; `owed` bytes came before it."""
        did = transport is Transport.MTP
        consent = consent_of_all([await self._consent(owner, Consult(one, did)) for one in senders])
        state = await self._mailbox(owner)
        return Case(
            transport=transport,
            answered=False,
            standing=consent.standing,
            size=size,
            used=state.used + owed,
            quota=self._quota,
            level_met=self._demands.met_by(consent),
            frequency_minutes=self._demands.minutes(consent),
            quiet_ms=state.quiet_ms(consent.handshake, self._clock.now()),
            set_aside=state.set_aside(consent.handshake),
        )

    async def _consent(self, owner: str, question: Consult) -> Consent:
        if not question.sender:
            return Consent()
        consent = await self._actors.ask("handshake", owner, question)
        assert isinstance(consent, Consent)
        return consent

    async def _mailbox(self, owner: str) -> Mailbox:
        state = await self._actors.ask("mailbox", owner, Inspect())
        assert isinstance(state, Mailbox)
        return state

    async def judge(self, address: str, author: str, size: int, *, introduction: bool) -> Judged:
        """Say what the policy says of a federated message, whose author (a DID) is proven, for a mailbox."""
        entry = await self._directory.by_address(address)
        if entry is None or not entry.enabled:
            return Judged(entry, _absent(exists=entry is not None))
        owed = self._owed.to(entry.address, self._work.low_water)
        case = await self._case(entry.address, (author,), size, owed, Transport.MTP)
        case = msgspec.structs.replace(case, authenticated=True, introduction=introduction)
        return Judged(entry, case)

    @failpoints.after("mail-accepted")
    async def keep(self, mail_id: str, owners: Sequence[str], raw: bytes, event: MakeEvent) -> Recorded:
        """Sync a federated message and the event that `event` makes of its blob's name.

        Raises VersionConflict when there is a mail of this id, Busy, StorageUnavailable.
        """
        if self.busy():
            raise Busy("too much mail waits to be filed, try again later")
        with self._one_more():
            debt = self._owed.promise(owners, len(raw), self._work.low_water)
            return await self._sync(debt, mail_id, raw, event, "mtp")

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        """Count a message that is being accepted."""
        self.in_progress += 1
        if self.in_progress >= RUSH:
            self._rushed_at = self._clock.now()
        try:
            yield
        finally:
            self.in_progress -= 1

    async def _sync(self, debt: Debt, mail_id: str, raw: bytes, event: MakeEvent, actor: str) -> Recorded:
        """Sync the blob, then the event: this is the moment of taking responsibility."""
        try:
            blob = await self._blobs.write_apart(raw, list(debt.ahead))
            write = Write(mail.stream(mail_id), (event(blob),), expected=0)
            (recorded,) = await self._log.append(write, origin=Origin(actor=actor))
        except Gone as error:
            self._owed.cancel(debt)
            # Erased since they were admitted: asked again, the sender learns who is left.
            raise Busy("try again", str(error)) from error
        except BaseException:
            self._owed.cancel(debt)
            raise
        self._owed.accepted(debt, recorded.position)
        return recorded

    @failpoints.after("mail-accepted")
    async def accept(
        self,
        facts: SessionFacts,
        envelope_sender: str,
        recipients: Sequence[Recipient],
        raw: bytes,
    ) -> str:
        """Sync the message and its event to disk; return the mail id.

        Raises MalformedMessage and MailLoop for a form beyond the limits, Forbidden when no recipient
        accepts mail from its author, MailboxFull when none has room, Busy and StorageUnavailable.
        """
        if self.busy():
            raise Busy("too much mail waits to be filed, try again later")
        with self._one_more():
            return await self._accept(facts, envelope_sender, recipients, raw)

    async def _accept(
        self, facts: SessionFacts, envelope_sender: str, recipients: Sequence[Recipient], raw: bytes
    ) -> str:
        structure = inspect(raw, self._mime)
        _require_form(structure)
        owners = list(dict.fromkeys(recipient.address for recipient in recipients))
        debt = self._owed.promise(owners, len(raw), self._work.low_water)
        try:
            authors = structure.from_addresses[:MAX_AUTHORS]
            refused = await self._refusals(debt, authors, envelope_sender)
        except BaseException:
            self._owed.cancel(debt)
            raise
        mail_id = self._clock.event_id()
        await self._sync(
            debt,
            mail_id,
            raw,
            lambda blob: MailAccepted(
                transport=Transport.SMTP,
                blob=blob,
                size=len(raw),
                recipients=_weighed(recipients, refused),
                envelope_sender=envelope_sender,
                authors=authors,
                message_id=structure.message_id,
                received_at=self._clock.now(),
                client=facts.client,
                helo=facts.helo,
                tls=facts.tls,
                session=facts.session,
            ),
            "smtp",
        )
        return mail_id

    async def _refusals(
        self, debt: Debt, authors: Sequence[str], envelope_sender: str
    ) -> Mapping[str, Reason]:
        """Say for which owners the policy would refuse, now that the authors are known, and why.

        Raises the refusal when that is all of them.
        """
        others = [author for author in dict.fromkeys(authors) if author != envelope_sender]
        refused: dict[str, Reason] = {}
        for owner, ahead in debt.ahead.items():
            verdict = policy.judge(await self._case(owner, others, debt.size, ahead))
            if verdict.refused:
                refused[owner] = verdict.reason
        if len(refused) == len(debt.ahead):
            reasons = set(refused.values())
            raise refusal(Reason.MAILBOX_FULL if Reason.MAILBOX_FULL in reasons else min(reasons))
        return refused


def _weighed(recipients: Iterable[Recipient], refused: Mapping[str, Reason]) -> tuple[Recipient, ...]:
    """Return each recipient once, with the reason that spoke against it."""
    return tuple(
        msgspec.structs.replace(recipient, refusal=refused.get(recipient.address))
        for recipient in dict.fromkeys(recipients)
    )


def _absent(*, exists: bool) -> Case:
    """Return the case of a mailbox that is not there, or disabled."""
    return Case(transport=Transport.SMTP, answered=False, exists=exists, enabled=False)


def _require_form(structure: Structure) -> None:
    """Refuse a message whose form is beyond the limits; raises MalformedMessage, MailLoop."""
    if structure.violation is Violation.LOOP:
        raise MailLoop("too many hops, this looks like a loop", structure.detail)
    if structure.violation is not None:
        raise MalformedMessage(f"message refused: {structure.detail}", structure.violation)
