"""Why a message is where it is: its complete story, from the log, the view and the replicators' bookmarks.

`explain` is for everybody who may look into the log; the command line is one caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from actors import mailbox as mailbox_actor
from events import delivery, handshake, mail, mailbox, node, parking
from events.errors import NotFound
from events.event import Recorded
from events.identity import SenderNames, handshake_id
from events.log.codec import Codec
from events.log.entry import answer_id
from events.log.reading import LogReader
from events.mail import MailAccepted, Recipient
from events.mailbox import Correspondent, DocumentWritten, InterestShown, MessageFiled, MessageSent
from events.parking import ReactionDropped, ReactionParked, ReactionRetried
from events.policy import Folder, Transport
from node.inspection.finding import Found, Show, find
from node.inspection.people import owner_of
from node.inspection.phrases import REASONS, counted, known, phrase
from node.inspection.states import Past
from node.inspection.stories import Branch, Facts, Step, Story
from node.inspection.visibility import UserView, shown

CONSUMER = "mail"
"""Name of the dispatcher that tells mailboxes of accepted mail (`node.core.DISPATCHER`)."""

HOW_REFUSALS_ARE_FOUND = (
    "a message that was refused was never accepted, so the log does not have it: look for `refused` in the "
    "daemon's messages (journalctl -u mailio-node), with the sender, recipient or client that it came from"
)


class Archive(msgspec.Struct, frozen=True):
    """Where stories are read from. `view` is None when there is none to read."""

    reader: LogReader
    codec: Codec
    view: UserView | None


def _nobody(done: int, total: int) -> None:
    """Show nothing."""


async def explain(archive: Archive, wanted: str, owner: str = "", show: Show = _nobody) -> list[Story]:
    """Tell the story of every message with this mail id, document id or Message-ID.

    `owner` (an email or Mailio address) leaves out all other mailboxes, and makes the search quick. Raises
    NotFound, which says how refusals are found, and CorruptRecord for what can't be read of the story.
    """
    address = owner_of(owner, archive.reader, archive.codec).address if owner else ""
    found = await find(archive.reader, archive.codec, wanted, address, show)
    if not found and address:
        # Not filed there yet, perhaps parked: then only the accepted mail has its Message-ID.
        found = await find(archive.reader, archive.codec, wanted, "", show)
    stories = [await _Telling(archive, each).story(address) for each in found]
    stories = [story for story in stories if story.branches]
    if not stories:
        raise _nothing(archive.reader, wanted)
    return stories


def _nothing(reader: LogReader, wanted: str) -> NotFound:
    """Say why there is no story."""
    if any(True for _ in reader.stream(mail.stream(wanted.removeprefix(mail.STREAM)))):
        return NotFound(f"mail {wanted} was accepted; what the log said of it was erased with its recipients")
    return NotFound(f"the log has nothing about {wanted}; {HOW_REFUSALS_ARE_FOUND}")


class _Telling:
    """Tells one story."""

    def __init__(self, archive: Archive, found: Found) -> None:
        self._archive = archive
        self._found = found
        self._now = Past(archive.reader, archive.codec, archive.reader.head.position)

    async def story(self, only: str) -> Story:
        """Tell it, for one mailbox only if that is named."""
        found = self._found
        if found.accepted is None:
            return Story(
                branches=[await self._branch(Branch(mailbox=found.owner, document=found.document), None)]
            )
        accepted = found.accepted.event
        assert isinstance(accepted, MailAccepted)
        story = Story(
            mail=found.accepted.stream.removeprefix(mail.STREAM),
            message_id=accepted.message_id,
            steps=list(_arrival(found.accepted, accepted)),
        )
        for recipient in _each_once(accepted.recipients):
            if only in {"", recipient.address}:
                branch = Branch(mailbox=recipient.address, email=recipient.email)
                branch.steps.append(_verdict(found.accepted, recipient))
                story.branches.append(await self._branch(branch, found.accepted))
        return story

    async def _branch(self, branch: Branch, accepted: Recorded | None) -> Branch:
        """Add what happened in one mailbox."""
        filed = self._answer(f"{mailbox_actor.KIND}/{branch.mailbox}", accepted) or self._filed(
            branch, accepted
        )
        if accepted is not None:
            branch.steps += self._parking(branch.mailbox, accepted)
        if filed is not None and isinstance(filed.event, MessageFiled):
            branch.document = filed.event.id
            branch.steps.append(self._filing(filed, filed.event, branch.mailbox))
        elif filed is not None:
            branch.steps.append(_step("erased", filed, "filed; what the log said of it was erased"))
        elif accepted is not None and len(branch.steps) == 1:
            branch.steps.append(Step(what="waiting", text="not filed yet: it waits for its turn"))
        if branch.document:
            self._later(branch, filed)
            branch.steps.sort(key=lambda step: step.position or 0)
            restorations = self._now.folded(node.STREAM, node.evolve, node.Restorations())
            branch.steps += await shown(self._archive.view, self._archive.reader, branch, restorations)
        return branch

    def _answer(self, actor: str, cause: Recorded | None) -> Recorded | None:
        """Return the first event of an actor's answer to a cause: its id is computed from the two."""
        row = self._archive.reader.by_id(answer_id(actor, cause.metadata.id, 0)) if cause else None
        return self._archive.codec.decode(row) if row else None

    def _filed(self, branch: Branch, accepted: Recorded | None) -> Recorded | None:
        """Look through the mailbox for a filing that is no answer of this node: it came with an import."""
        mail_id = accepted.stream.removeprefix(mail.STREAM) if accepted else ""
        for record in self._now.records(mailbox.stream(branch.mailbox)):
            match record.event:
                case MessageFiled() as filed if filed.id == branch.document or (filed.mail == mail_id != ""):
                    return record
        return None

    def _parking(self, owner: str, accepted: Recorded) -> Iterator[Step]:
        """Tell how often filing failed for good, and what the operator did about it."""
        actor = f"dispatcher/{CONSUMER}/{mailbox_actor.KIND}/{owner}"
        first = self._answer(actor, accepted)
        if first is None:
            return
        name = parking.parked_id(CONSUMER, accepted.position, mailbox_actor.KIND, owner)
        for record in self._now.records(parking.STREAM, first.version - 1):
            match record.event:
                case ReactionParked() as event if event.id == name:
                    text = f"filing failed {event.attempts} times and was parked as {name}: {event.reason}"
                    yield _step("parked", record, text, {"id": name, "attempts": event.attempts})
                case ReactionRetried(id=retried) if retried == name:
                    yield _step("retried", record, "tried again, with success", {"id": name})
                case ReactionDropped(id=dropped) as event if dropped == name:
                    text = f"given up by the operator: {event.reason or 'no reason given'}"
                    yield _step("dropped", record, text, {"id": name})

    def _filing(self, record: Recorded, filed: MessageFiled, owner: str) -> Step:
        """Tell where it was filed, by which rule, and what was known of the sender then."""
        past = Past(self._archive.reader, self._archive.codec, record.position - 1)
        other = _passed_between(past, owner, filed.sender)
        said = f"filed in {filed.folder.value}, because {REASONS[filed.reason]} ({filed.reason.value})"
        entry = _entry(past, owner, filed.sender)
        book = known(filed.standing, "the sender")
        if entry:
            book += f", by an entry of position {entry}"
        facts = {
            "folder": filed.folder.value,
            "reason": filed.reason.value,
            "sender": filed.sender,
            "standing": filed.standing.value if filed.standing else None,
            "entryPosition": entry,
            "received": other.received,
            "sent": other.sent,
            "readWithInterest": len(other.interest),
            "size": filed.size,
            "defects": filed.defects,
            "documentBlob": filed.document,
        }
        return _step("filed", record, f"{said}; {book}; {counted(other)}", facts)

    def _later(self, branch: Branch, filed: Recorded | None) -> None:
        """Add what devices did to the document."""
        before: Facts | None = None
        if filed is not None and isinstance(filed.event, MessageFiled):
            before = {"folder": filed.event.folder.value}
        for record in self._now.records(mailbox.stream(branch.mailbox), filed.version if filed else 0):
            match record.event:
                case MessageSent(id=branch.document) as sent:
                    branch.steps.append(_step("sent", record, phrase(sent)))
                    branch.steps += self._deliveries(record, branch.document)
                    before = {"folder": Folder.SENT.value}
                case DocumentWritten(id=branch.document) as written:
                    what = "written" if before is None else "changed"
                    facts = {"rev": written.revisions[0], "device": written.device, "kind": written.kind}
                    branch.steps.append(_step(what, record, phrase(written, before), facts))
                    before = _kept(written)
                case InterestShown(message=branch.document) as interest:
                    branch.steps.append(_step("interest", record, phrase(interest)))

    def _deliveries(self, sent: Recorded, message: str) -> Iterator[Step]:
        """Tell what became of a sent message: its deliveries were promised right behind it."""
        position = sent.position
        while (row := self._archive.reader.at(position := position + 1)) is not None:
            destination, _, name = row.stream.removeprefix(delivery.STREAM).partition(":")
            if name != message:
                return
            for record in self._now.records(row.stream):
                text = f"{destination}: {phrase(record.event)}"
                yield _step("delivery", record, text, {"delivery": f"{destination}:{name}"})


def _each_once(recipients: Sequence[Recipient]) -> list[Recipient]:
    """Return one recipient for each mailbox: a mail may name one by several emails."""
    firsts: dict[str, Recipient] = {}
    for recipient in recipients:
        firsts.setdefault(recipient.address, recipient)
    return list(firsts.values())


def _passed_between(past: Past, owner: str, sender: str) -> Correspondent:
    """Return what had passed between an owner and a sender."""
    state = mailbox.initial(owner)
    for record in past.records(mailbox.stream(owner)):
        if getattr(record.event, "sender", None) == sender:
            state = mailbox.evolve(state, record.event)
    return state.correspondent(sender)


def _kept(written: DocumentWritten) -> Facts | None:
    """Return what is known of a document after a device wrote it, None when it is gone."""
    if written.deleted:
        return None
    return {"folder": written.folder, "read": written.read}


def _step(what: str, record: Recorded, text: str, facts: Facts | None = None) -> Step:
    return Step(
        what=what,
        text=text,
        at=record.metadata.at,
        position=record.position,
        actor=record.metadata.actor,
        facts=facts or {},
    )


def _arrival(record: Recorded, accepted: MailAccepted) -> Iterator[Step]:
    """Tell of the session, and of the moment when the node took responsibility."""
    yield Step(
        what="session",
        at=accepted.received_at,
        text=_request(accepted) if accepted.transport == Transport.MTP else _session(accepted),
        facts={
            "session": accepted.session,
            "client": accepted.client,
            "helo": accepted.helo,
            "tls": accepted.tls,
            "transport": accepted.transport,
            "envelopeSender": accepted.envelope_sender,
            "authors": list(accepted.authors),
            "recipients": [recipient.email for recipient in accepted.recipients],
        },
    )
    text = f"{accepted.size} bytes synced as blob {accepted.blob}, then this event: the sender heard yes"
    facts = {"blob": accepted.blob, "size": accepted.size, "spam": accepted.spam}
    yield _step("accepted", record, text, facts | {"authenticated": accepted.authenticated})


def _session(accepted: MailAccepted) -> str:
    tls = f"over {accepted.tls}" if accepted.tls else "in plain text"
    session = f"session {accepted.session}" if accepted.session else "a session (its name was not kept)"
    return (
        f"{session} from {accepted.client or 'an unknown address'}, which called itself "
        f"{accepted.helo or 'nothing'}, by {accepted.transport} {tls}; envelope sender "
        f"<{accepted.envelope_sender}>, authors {', '.join(accepted.authors) or 'none'}"
    )


def _request(accepted: MailAccepted) -> str:
    turned = "".join(f"; {one.address} did not get it: {one.code} {one.text}" for one in accepted.turned)
    return (
        f"a request that {accepted.helo} has signed, from {accepted.client or 'an unknown address'}, by "
        f"{accepted.transport}; author {', '.join(accepted.authors)}, who belongs to it{turned}"
    )


def _verdict(record: Recorded, recipient: Recipient) -> Step:
    """Tell why the door admitted this recipient."""
    standing, refused = recipient.standing, recipient.refusal
    text = f"{recipient.email} was admitted: {known(standing, 'the envelope sender')}"
    if refused is not None:
        text += f"; alone it would have been refused ({REASONS[refused]}), but other recipients take it"
    facts = {"standing": standing.value if standing else None, "refusal": refused.value if refused else None}
    return Step(what="verdict", text=text, at=record.metadata.at, actor=record.metadata.actor, facts=facts)


def _entry(past: Past, owner: str, sender: str) -> int | None:
    """Return the position of the event that made the entry for a sender's name or domain, if there is one."""
    names = (SenderNames.of_did if sender.startswith("did:") else SenderNames.of_email)(sender)
    ids = {handshake_id(owner, name) for name in (*names.exact, *names.against, names.domain) if name}
    found = None
    for record in past.records(handshake.stream(owner)):
        terms = getattr(record.event, "terms", None)
        if (terms.id if terms else getattr(record.event, "id", "")) in ids:
            found = record.position if terms else None
    return found
