"""Signing the log: when a checkpoint is due, how it is made, and whether one can be believed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec
import structlog

from events.attestation import STREAM, CheckpointSigned, signed_bytes
from events.errors import Conflict, InvalidInput, MailioError, Misconfigured
from events.event import Recorded
from events.identity import mailio_address, mailio_did
from events.log.log import Clock, Log, Origin, Write
from node.crypto.base64_text import from_base64, to_base64
from node.crypto.keys import SIGNATURE_BYTES, SigningKeys, public_key_from_base64, verify_signature
from node.settings import LogSettings

LOOK_SECONDS: Final = 5.0
"""How often the attestor looks whether a checkpoint is due: two comparisons, and late by this at the most."""

FILE_TYPE: Final = "mailio_log_checkpoint"

MAX_FILE_BYTES: Final = 16_384
"""A checkpoint has about 500 bytes; more is some other file."""

NO_CHECKPOINT: Final = "this is not what `mailio-node log checkpoint` prints"

_ORIGIN: Final = Origin(actor="node")

_messages = structlog.get_logger("log")


class Attestor:
    """Signs the log of one node, now and then."""

    def __init__(self, log: Log, keys: SigningKeys, domain: str, clock: Clock, settings: LogSettings) -> None:
        self._log = log
        self._keys = keys
        self._domain = domain
        self._clock = clock
        self._settings = settings
        self._position = log.head
        self._signed_at = clock.now()
        self._signing = asyncio.Lock()

    async def run(self) -> None:
        """Sign whenever it is due, until cancelled. What fails is reported, and tried again."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Sign if that many events, or that much time with anything new, have passed."""
        new = self._log.head - self._position
        late = self._clock.now() - self._signed_at >= self._settings.checkpoint_hours * 3_600_000
        if new >= self._settings.checkpoint_events or (new and late):
            await self.try_to_sign()

    async def try_to_sign(self) -> int | None:
        """Sign if anything is new, and return the position of the new checkpoint.

        A log that can't be written now is somebody else's trouble, and in the messages.
        """
        try:
            record, new = await self._signed()
        except MailioError as error:
            _messages.warning("no checkpoint was signed", error=str(error))
            return None
        return record.position if new else None

    async def sign(self) -> CheckpointSigned:
        """Sign the log as it is and append that; return the newest checkpoint if nothing came after it.

        Raises Conflict for an empty log, StorageUnavailable, Busy.
        """
        record, _ = await self._signed()
        assert isinstance(record.event, CheckpointSigned)
        return record.event

    async def _signed(self) -> tuple[Recorded, bool]:
        """Return the newest checkpoint as it stands in the log, and whether it was made just now."""
        async with self._signing:
            head = self._log.head
            if not head:
                raise Conflict("the log is empty: there is nothing to sign")
            (newest,) = await self._log.read(head - 1, 1)
            if isinstance(newest.event, CheckpointSigned):
                self._note(head)
                return newest, False
            checkpoint = signed(self._keys, self._domain, head, newest.hash, self._clock.now())
            (record,) = await self._log.append(Write(STREAM, (checkpoint,)), origin=_ORIGIN)
            self._note(record.position)
            return record, True

    def _note(self, position: int) -> None:
        self._position, self._signed_at = position, self._clock.now()


def signed(keys: SigningKeys, domain: str, position: int, digest: bytes, at: int) -> CheckpointSigned:
    """Make a checkpoint: at this position the log has this hash. `at` is in milliseconds."""
    node = str(keys.did)
    said = signed_bytes(position=position, hash=digest.hex(), at=at, node=node, domain=domain)
    return CheckpointSigned(
        position=position,
        hash=digest.hex(),
        at=at,
        node=node,
        domain=domain,
        public_key=to_base64(keys.public_key),
        signature=to_base64(keys.sign(said)),
    )


def objection(checkpoint: CheckpointSigned, trusted: Collection[bytes]) -> str:
    """Say why a checkpoint can't be believed, "" when it can.

    `trusted` are the node's public keys. With none at hand, a key has to be the one that its DID names.
    """
    try:
        key = public_key_from_base64(checkpoint.public_key)
        signature = from_base64(checkpoint.signature, length=SIGNATURE_BYTES, limit=128)
    except MailioError as error:
        return f"it has no valid key and signature ({error})"
    if checkpoint.node != str(mailio_did(mailio_address(key))):
        return "its key is not that of the node it names"
    if trusted and key not in trusted:
        return f"{checkpoint.node} signed it, which is not this node"
    said = signed_bytes(
        position=checkpoint.position,
        hash=checkpoint.hash,
        at=checkpoint.at,
        node=checkpoint.node,
        domain=checkpoint.domain,
    )
    return "" if verify_signature(key, said, signature) else "its signature is wrong"


def file_content(checkpoint: CheckpointSigned) -> dict[str, object]:
    """Return a checkpoint as the JSON object that an operator keeps elsewhere."""
    return {"type": FILE_TYPE, **msgspec.to_builtins(checkpoint)}


def read_file(path: Path) -> CheckpointSigned:
    """Read a checkpoint that was kept. Raises Misconfigured, InvalidInput."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise Misconfigured(f"{path}: can't be read: {error.strerror}") from error
    try:
        members = msgspec.json.decode(content, type=dict)
        if members.pop("type", "") != FILE_TYPE:
            raise InvalidInput(f"{path}: {NO_CHECKPOINT}")
        return msgspec.convert(members, CheckpointSigned)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: {NO_CHECKPOINT}: {error}") from error
