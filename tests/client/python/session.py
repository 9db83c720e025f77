"""A client's conversation with its node: login by challenge, contacts, uploads, sending (wire spec section 7)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from aiohttp import ClientSession

from tests.client.python.contact import Contact
from tests.client.python.errors import Refused
from tests.client.python.keys import Keys
from tests.client.python.message import Outgoing


class NodeSession:
    """Requests to one node; `token` is there after `login`."""

    def __init__(self, http: ClientSession, url: str) -> None:
        """`url` has scheme, host and port, and no `/` at its end."""
        self._http = http
        self._url = url
        self.token = ""

    async def login(self, keys: Keys, email: str) -> None:
        """Answer a fresh challenge (section 1.10). Raises Refused."""
        nonce = (await self._ask("GET", "/api/v1/nonce"))["nonce"]
        self.token = (await self._ask("POST", "/api/v1/login", keys.login(nonce, email)))["token"]

    async def contact(self, address: str) -> Contact:
        """Return somebody who lives on this node."""
        return Contact.of(await self._ask("GET", f"/{quote(address)}/did.json"))

    async def find(self, did: str) -> Contact:
        """Have the node find somebody by `did:web` wherever they live. Raises Refused."""
        answer = await self._ask("POST", "/api/v1/resolve/webdid", {"dids": [did]})
        for found in answer.get("found") or ():
            contact = Contact.of(found["didDocument"])
            if contact.did == did:
                return contact
        raise Refused(f"{did} was not found")

    async def send(self, outgoing: Outgoing, thread: str = "") -> str:
        """Upload the attachments, send the message, return its id. Raises Refused."""
        links = {}
        for upload in outgoing.uploads:
            place = await self._ask("GET", f"/api/v1/s3presign?objectKey={upload.id}&method=put")
            async with self._http.put(place["url"], data=upload.data) as answer:
                if answer.status >= 300:
                    raise Refused(f"the upload was refused: {answer.status}")
            links[upload.id] = place["url"].partition("?")[0]
        sent = await self._ask("POST", "/api/v1/senddid", outgoing.request(links, thread))
        return str(sent["didCommId"])

    async def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        headers = {"Authorization": self.token} if self.token else {}
        async with self._http.request(method, self._url + path, json=body, headers=headers) as answer:
            content = await answer.json()
            if answer.status >= 300:
                raise Refused(f"{path.partition('?')[0]}: {answer.status} {content.get('message', '')}")
            return dict(content)
