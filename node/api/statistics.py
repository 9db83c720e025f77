"""What passed between the owner and a correspondent, and interest shown (wire spec section 4.5)."""

from __future__ import annotations

import msgspec

from events.errors import InvalidInput
from events.identity import strip_identifier, userdb_name
from events.mailbox import ShowInterest
from node.api.mailboxes import Mailboxes
from node.api.request_data import Text
from node.api.route import Auth, Call, Route
from node.core import Core


class SenderQuery(msgspec.Struct, frozen=True):
    """An email, an address or a DID."""

    sender: Text


class EmailStatistics(msgspec.Struct, frozen=True, rename="camel"):
    """Messages received from and sent to the correspondent, read with interest, and sent today in all."""

    received: int
    sent: int
    interest: int
    sent_by_day: int


class InterestRequest(msgspec.Struct, frozen=True, rename="camel"):
    """Which message of whom was worth reading; `messageId` is the document's id."""

    sender: Text
    message_id: Text


class Interest(msgspec.Struct, frozen=True, rename="camel"):
    """The message that was counted."""

    message_id: str


class _Author(msgspec.Struct):
    author: str = msgspec.field(name="from", default="")


class StatisticsRoutes:
    """Routes of the counters."""

    def __init__(self, core: Core, mailboxes: Mailboxes) -> None:
        self._core = core
        self._mailboxes = mailboxes

    def routes(self) -> list[Route]:
        """Declare the routes."""
        return [
            Route(
                method="GET",
                path="/api/v1/emailstatistics",
                summary="What passed between you and a correspondent",
                tag="statistics",
                handler=self.of_sender,
                query=SenderQuery,
                answer=EmailStatistics,
                auth=Auth.TOKEN,
            ),
            Route(
                method="PUT",
                path="/api/v1/emailstatistics/interest",
                summary="Count a message as read with interest; each counts once",
                tag="statistics",
                handler=self.show_interest,
                body=InterestRequest,
                answer=Interest,
                status=202,
                auth=Auth.TOKEN,
            ),
        ]

    async def of_sender(self, call: Call[SenderQuery, None]) -> EmailStatistics:
        """Read the counters."""
        counters, owner = self._core.sender_statistics, call.address
        sender, mailbox = bare(call.query.sender), await self._mailboxes.state(owner)
        return EmailStatistics(
            received=await counters.received(owner, sender),
            sent=mailbox.sent_to(sender),
            interest=await counters.interest(owner, sender),
            sent_by_day=mailbox.sent_on(self._core.clock.now()),
        )

    async def show_interest(self, call: Call[None, InterestRequest]) -> Interest:
        """Count the message; return when the counter shows it. Raises InvalidInput, Busy."""
        sender = bare(call.body.sender)
        await self._require_message(call.address, call.body.message_id, sender)
        command = ShowInterest(sender, call.body.message_id)
        await self._mailboxes.change(call.address, command, call.origin, "statistics")
        return Interest(call.body.message_id)

    async def _require_message(self, owner: str, message_id: str, sender: str) -> None:
        """Only a message that is there, from this sender, counts: so the counters stay bounded."""
        stored = await self._core.views.stores["userdb"].get(userdb_name(owner), message_id)
        if stored is None or stored.winner.deleted:
            raise InvalidInput("there is no such message")
        try:
            author = msgspec.json.decode(stored.winner.body, type=_Author).author
        except msgspec.MsgspecError:
            raise InvalidInput("there is no such message", "the document is no message") from None
        if author and bare(author) != sender:
            raise InvalidInput("the message is from somebody else")


def bare(sender: str) -> str:
    """Reduce a sender to the text under which the mailbox counts: bare and in lower case."""
    return strip_identifier(sender).lower()
