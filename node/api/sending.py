"""Sending to other Mailio users, and taking it back (wire spec sections 5.4 and 7.2)."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from events.errors import InvalidInput
from events.identity import is_document_hash
from node.api.request_data import Text
from node.api.route import Auth, Call, Route
from node.core import Core

SEND_BYTES: Final = 8_388_608
"""Body of a request to send: 3 MiB of ciphertext and its keys; attachments are links."""


class SendRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A message as a client means it; `from`, `id` and `createdTime` are the node's to say."""

    did_comm_message: dict[str, Any]
    delete_attachments: Annotated[list[Text], msgspec.Meta(max_length=50)] = []


class Sent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Ids of what is being sent; only one of them is not empty."""

    smtp_id: str = ""
    did_comm_id: str = ""


class SendingRoutes:
    """Routes that send."""

    def __init__(self, core: Core) -> None:
        self._sending = core.federation.sending
        self._uploads = core.federation.uploads

    def routes(self) -> list[Route]:
        """Declare the routes."""
        return [
            Route(
                method="POST",
                path="/api/v1/senddid",
                summary="Send a message; what becomes of it is in the document delivery:<id>",
                tag="sending",
                handler=self.send,
                body=SendRequest,
                answer=Sent,
                auth=Auth.TOKEN,
                status=202,
                refusals=(422, 429),
                body_bytes=SEND_BYTES,
            ),
            Route(
                method="POST",
                path="/api/v1/sendcancel",
                summary="Take a message back as far as it has not gone",
                tag="sending",
                handler=self.cancel,
                body=Sent,
                answer=Sent,
                auth=Auth.TOKEN,
                status=202,
                refusals=(404, 409),
            ),
        ]

    async def send(self, call: Call[None, SendRequest]) -> Sent:
        """Send. Raises what `Sending.send` raises."""
        ident = await self._sending.send(call.address, call.body.did_comm_message, call.origin)
        for link in call.body.delete_attachments:
            await self._uploads.forget(call.address, link, call.origin)
        return Sent(did_comm_id=ident)

    async def cancel(self, call: Call[None, Sent]) -> Sent:
        """Take back. Raises InvalidInput, NotFound, and Conflict when it has gone."""
        if not is_document_hash(call.body.did_comm_id):
            raise InvalidInput("invalid didCommId")
        await self._sending.cancel(call.address, call.body.did_comm_id, call.origin)
        return call.body
