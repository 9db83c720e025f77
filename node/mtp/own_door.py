"""Recipients on this node: no network, and else everything that a peer's message goes through.

The request is signed and opened like any other, so that what is kept of it is proven in the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from events.attempt import Cause, Outcome, RecipientStatus, Verdict
from events.delivery import Delivery, Kind
from events.errors import MailioError
from events.log.log import Clock
from node.crypto.keys import ServerKeys
from node.mtp import status
from node.mtp.envelope import MESSAGE, open_request, sign_request
from node.mtp.judging import final, later, temporary
from node.mtp.message import DidCommMessage, DidCommRequest
from node.mtp.ports import Reports
from node.mtp.receiving import Messages
from node.mtp.status import Code
from node.mtp.verifying import Verified


class OwnDoor:
    """The `LocalDoor` of a node."""

    def __init__(
        self, *, messages: Messages, reports: Reports, signing: ServerKeys, clock: Clock, server_domain: str
    ) -> None:
        self._messages = messages
        self._reports = reports
        self._signing = signing
        self._clock = clock
        self._domain = server_domain

    async def carry(self, delivery: Delivery, message: DidCommMessage) -> Outcome:
        """Deliver, and judge as a sender does."""
        missing = tuple(_unknown(one.email) for one in delivery.addressees if one.email and not one.address)
        try:
            outcome = await self._carried(delivery, message, missing)
        except MailioError as error:
            outcome = _judged(error)
        return msgspec.structs.replace(outcome, statuses=missing)

    async def _carried(
        self, delivery: Delivery, message: DidCommMessage, missing: Sequence[RecipientStatus]
    ) -> Outcome:
        if delivery.kind is Kind.REPORT:
            told = [Code.parse(one.code).status(one.text, address=one.address) for one in delivery.statuses]
            await self._reports.record(self._domain, delivery.message, told)
        elif len(missing) == len(delivery.addressees):
            return final(status.BAD_MAILBOX, missing[0].text)
        else:
            await self._messages.take(await asyncio.to_thread(self._signed, message), "")
        return self._done()

    def _signed(self, message: DidCommMessage) -> Verified:
        request = DidCommRequest(timestamp=self._clock.now(), did_comm_message=message)
        opened = open_request(MESSAGE, sign_request(MESSAGE, request, self._signing, self._domain))
        return Verified(
            peer=self._domain,
            payload=opened.payload,
            signed=opened.signed,
            signature=opened.signature,
            key=self._signing.public_key,
        )

    def _done(self) -> Outcome:
        return Outcome(
            verdict=Verdict.DELIVERED, code=str(status.DELIVERED), text="message sent", server=self._domain
        )


def _unknown(email: str) -> RecipientStatus:
    return RecipientStatus(email=email, code=str(status.BAD_MAILBOX), text=f"recipient not found: {email}")


def _judged(error: MailioError) -> Outcome:
    """Judge what the own door raised as the same answer of a peer is judged (`of_status`)."""
    if not error.temporary:
        return final(error.mtp, error.public)
    # A recipient is asked a few times; trouble of the node (a full disk) is waited for to the end.
    cause = Cause.REFUSED if error.http in {429, 507} else Cause.UNREACHABLE
    return later(cause, temporary(error.mtp), error.public)
