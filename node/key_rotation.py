"""Changing the node's own key in steps, none of which a peer notices: docs/keys.md tells why in this order.

The key file says how far it is, and is replaced whole at each step. Whatever dies in between, the next
start goes on from there.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from events.errors import Busy, Conflict, NotFound
from events.identity import mailio_address
from events.log.log import Clock
from node.crypto.base64_text import to_base64
from node.crypto.keys import (
    KEY_BYTES,
    OtherKey,
    RetiredKey,
    Rotation,
    ServerKeys,
    Stage,
    replace_server_keys,
)
from node.discovery.publishing import Difference, State
from node.settings import KeySettings

Survey = Callable[[], Awaitable[Sequence[Difference]]]
"""Compares what DNS says now with what it should say."""

AGAIN: Final = "run `mailio-node keys rotate` again"


class KeyRotation:
    """The steps. `keys` is the one object by which the whole node signs: it changes in place."""

    def __init__(
        self, path: Path, keys: ServerKeys, settings: KeySettings, clock: Clock, survey: Survey
    ) -> None:
        self._path = path
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._survey = survey
        self._one = asyncio.Lock()

    async def rotate(self, *, force: bool = False) -> None:
        """Take the next step: announce a new key, put it first, sign by it.

        Each but the first needs that DNS says what the one before asked for, and has said so for a TTL.
        `force` does not ask DNS and does not wait. Raises Conflict (that is not there, or only retiring is
        left), Busy (DNS gave no answer, or until when to wait), Misconfigured.
        """
        async with self._one:
            stage = self._keys.stage
            if stage is Stage.STEADY:
                self._put(_announced(self._keys, self._clock.now()))
            elif stage is Stage.SIGNING:
                until = retirable(self._keys, self._settings)
                raise Conflict(f"the new key signs; `mailio-node keys retire` ends it, from {_moment(until)}")
            else:
                if not force:
                    await self._require_everywhere()
                self._put(_next(self._keys, self._clock.now()))

    async def retire(self, address: str = "", *, force: bool = False, stolen: bool = False) -> None:
        """Give up the live key that does not sign; "" means that one. For a retired one, note it as stolen.

        The key that came before goes when its grace is over, a new one at any time before it was put first.
        `force` does not wait, nor does a stolen key. Raises Conflict, Busy, NotFound, Misconfigured.
        """
        async with self._one:
            keys = self._keys
            if stolen and address in map(_address, keys.retired):
                self._put(_stolen(keys, address))
                return
            rotation = self._retirable(address)
            if not (force or stolen):
                self._require_time(rotation)
            self._put(_retired(keys, rotation, self._clock.now(), stolen=stolen))

    def _put(self, changed: ServerKeys) -> None:
        """Write the key file, then sign by it: nobody sees a signature of a key that could be lost."""
        replace_server_keys(self._path, changed)
        self._keys.adopt(changed)

    async def _require_everywhere(self) -> None:
        """Require that what the stage asks for is in every cache. What is seen first is noted."""
        rotation = self._keys.rotation
        assert rotation is not None
        records = [one for one in await self._survey() if one.wanted.kind == "TXT"]
        if any(one.state is State.UNKNOWN for one in records):
            raise Busy(f"DNS gave no answer about this node's own records: {AGAIN} later")
        wrong = [one.wanted.name for one in records if one.wrong]
        if wrong:
            self._note(rotation, published_at=0, ttl=rotation.ttl)
            raise Conflict(
                f"TXT {wrong[0]} is not as it has to be: publish what `mailio-node dns` prints, then {AGAIN}"
            )
        ttl = max(rotation.ttl, *(one.ttl for one in records), 0)
        since = rotation.published_at or self._clock.now()
        self._note(rotation, published_at=since, ttl=ttl)
        until = _everywhere(since, ttl, self._settings)
        if self._clock.now() < until:
            raise Busy(
                f"the records are there, but old ones may be remembered until {_moment(until)}: {AGAIN} then"
            )

    def _note(self, rotation: Rotation, *, published_at: int, ttl: int) -> None:
        noted = msgspec.structs.replace(rotation, published_at=published_at, ttl=ttl)
        if noted != rotation:
            self._put(_with(self._keys, noted))

    def _retirable(self, address: str) -> Rotation:
        """Return the rotation whose other key is meant. Raises Conflict, NotFound."""
        keys = self._keys
        if keys.rotation is None and address in {"", keys.address}:
            raise Conflict("this is the node's only key: `mailio-node keys rotate` makes another one first")
        if address == keys.address:
            raise Conflict(f"{address} signs: `mailio-node keys rotate` goes on to the other one")
        if address in map(_address, keys.retired):
            raise Conflict(f"{address} is retired")
        if keys.rotation is None or address not in {"", keys.rotation.other.address}:
            raise NotFound(f"no key of this node is {address}: see `mailio-node keys list`")
        return keys.rotation

    def _require_time(self, rotation: Rotation) -> None:
        """Raise Busy or Conflict while somebody may need the key."""
        until = retirable(self._keys, self._settings)
        if rotation.stage is Stage.SIGNING and self._clock.now() < until:
            raise Busy(f"the old key may be needed until {_moment(until)}: retire it then")
        if rotation.stage is Stage.PROMOTED:
            raise Conflict(
                "peers may hold the new key already: go on with `mailio-node keys rotate`, or give it up "
                "with --force"
            )


def retirable(keys: ServerKeys, settings: KeySettings) -> int:
    """Return when the old key's grace is over (ms); 0 when there is none."""
    rotation = keys.rotation
    if rotation is None or rotation.stage is not Stage.SIGNING:
        return 0
    return rotation.since + settings.grace_seconds * 1000


def _everywhere(published_at: int, ttl: int, settings: KeySettings) -> int:
    """Return when what was published then is in every cache (ms).

    A resolver tells what is left of a TTL, not what it was: so the setting counts if it is longer.
    """
    return published_at + max(ttl, settings.ttl_seconds) * 1000


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _address(retired: RetiredKey) -> str:
    return mailio_address(retired.public_key)


def _with(keys: ServerKeys, rotation: Rotation | None, retired: tuple[RetiredKey, ...] = ()) -> ServerKeys:
    """Return the same signing key with another rotation; `retired` come to those that are."""
    return ServerKeys(keys.seed, keys.created, rotation, keys.retired + retired)


def _announced(keys: ServerKeys, now: int) -> ServerKeys:
    other = OtherKey(secrets.token_bytes(KEY_BYTES), now)
    return _with(keys, Rotation(stage=Stage.ANNOUNCED, other=other, since=now))


def _next(keys: ServerKeys, now: int) -> ServerKeys:
    """Go from announced to promoted, or from promoted to signing, where the two keys change places."""
    rotation = keys.rotation
    assert rotation is not None
    if rotation.stage is Stage.ANNOUNCED:
        return _with(keys, Rotation(stage=Stage.PROMOTED, other=rotation.other, since=now, ttl=rotation.ttl))
    before = Rotation(stage=Stage.SIGNING, other=OtherKey(keys.seed, keys.created), since=now)
    return ServerKeys(rotation.other.seed, rotation.other.created, before, keys.retired)


def _retired(keys: ServerKeys, rotation: Rotation, now: int, *, stolen: bool) -> ServerKeys:
    """Drop the other key. What it signed is remembered, unless it is a new one that has signed nothing."""
    if rotation.stage is not Stage.SIGNING:
        return _with(keys, None)
    other = rotation.other
    gone = RetiredKey(public_key=other.public_key, created=other.created, retired=now, stolen=stolen)
    return _with(keys, None, (gone,))


def _stolen(keys: ServerKeys, address: str) -> ServerKeys:
    retired = tuple(
        msgspec.structs.replace(one, stolen=True) if _address(one) == address else one for one in keys.retired
    )
    return ServerKeys(keys.seed, keys.created, keys.rotation, retired)


_NEXT: Final = {
    Stage.STEADY: "nothing: `mailio-node keys rotate` begins a change",
    Stage.ANNOUNCED: "publish what `mailio-node dns` prints (p2= is new), then `mailio-node keys rotate`",
    Stage.PROMOTED: "publish what `mailio-node dns` prints (p= is new), then `mailio-node keys rotate`",
    Stage.SIGNING: "`mailio-node keys retire`, then publish what `mailio-node dns` prints",
}


def key_list(keys: ServerKeys, settings: KeySettings) -> dict[str, Any]:
    """Tell all keys, how far a change is, and what comes next, as JSON; never a private key. Times in ms."""
    rotation = keys.rotation
    told = [_told(keys.public_key, keys.created, "signs")]
    if rotation is not None:
        role = "before" if rotation.stage is Stage.SIGNING else "next"
        told.append(_told(rotation.other.public_key, rotation.other.created, role))
    for one in reversed(keys.retired):
        state = "stolen" if one.stolen else "retired"
        told.append(_told(one.public_key, one.created, state) | {"retired": one.retired})
    until = retirable(keys, settings)
    if rotation is not None and rotation.published_at:
        until = _everywhere(rotation.published_at, rotation.ttl, settings)
    return {
        "stage": keys.stage,
        "since": rotation.since if rotation is not None else 0,
        "waitUntil": until,
        "next": _NEXT[keys.stage],
        "keys": told,
    }


def _told(public_key: bytes, created: int, state: str) -> dict[str, Any]:
    return {
        "address": mailio_address(public_key),
        "publicKey": to_base64(public_key),
        "created": created,
        "state": state,
    }
