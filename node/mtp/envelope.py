"""The signed envelope of server-to-server requests and replies (wire spec sections 3.1 and 3.2).

A payload travels twice: as JSON, and as CBOR with an Ed25519 signature over exactly those bytes. The
reference server believes the JSON and verifies the CBOR without comparing them (section 10.3, S1).
Whoever opens an envelope here does three things, in this order:

1. `open_request` or `open_reply`: read it within bounds. Nothing is verified.
2. `Opened.is_signed_by`: verify the bytes as received with the keys that DNS gives for the sender.
3. `Opened.require_covered`: see that the JSON says what was signed. From then on `payload` is safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

import msgspec

from events.errors import InvalidInput, LimitExceeded, MailioError
from node.crypto import cbor
from node.crypto.base64_text import from_base64, to_base64
from node.crypto.keys import SIGNATURE_BYTES, SigningKeys, verify_signature
from node.strict_json import decoder, is_deeper

SIGNATURE_SCHEME: Final = "EdDSA_X25519"

MAX_DEPTH: Final = cbor.MAX_DEPTH + 1
"""Levels of nesting of the JSON: those of the payload, and the envelope around it."""

MAX_SENDER_DOMAIN: Final = 260
"""Characters of `senderDomain`: a host name, and a development port so that it can be named in a refusal."""

MAX_NUMBER_DIGITS: Final = 20
"""Digits of an integer: the largest that CBOR holds has 20. The time to read a number is quadratic."""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One of the three conversations: where it is held, and the names of its payloads.

    `lossy` marks payloads whose CBOR, from a Go server, says less than their JSON (Q4).
    """

    path: str
    request: str
    reply: str
    lossy: bool = False


MESSAGE: Final = Kind(path="/api/v1/mtp/message", request="didCommRequest", reply="didCommRequest")
DID_LOOKUP: Final = Kind(
    path="/api/v1/mtp/did", request="didLookupRequest", reply="didLookupResponse", lossy=True
)
HANDSHAKE_LOOKUP: Final = Kind(
    path="/api/v1/mtp/handshake", request="handshakeRequest", reply="handshakeResponse"
)


class InvalidEnvelope(InvalidInput):
    """What came is no signed request, or its signature does not hold.

    Its answer has the shape `{"error": ...}` (section 0.3), with status 400 for bad signatures too (Q8).
    """

    mtp = "5.7.7"


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """An envelope that was read, and not yet verified.

    `payload` is the JSON, `signed` the CBOR bytes that the signature is about. `sender_domain` is what the
    sender claims, "" where a reply has none.
    """

    kind: Kind
    payload: dict[str, Any]
    signed: bytes
    signature: bytes
    sender_domain: str

    def is_signed_by(self, keys: Iterable[bytes]) -> bool:
        """Whether one of these Ed25519 keys (32 bytes each) has signed the CBOR."""
        return any(verify_signature(key, self.signed, self.signature) for key in keys)

    def require_covered(self) -> None:
        """See that the JSON says what the signed CBOR says. Raises InvalidEnvelope, LimitExceeded.

        Tolerated is what honest peers do (section 10.3, S1): numbers by value, empty as absent, and in
        lookups of DIDs the two members of a document that a Go server's CBOR has lost.
        """
        if self._reads_the_same():
            return
        try:
            content = cbor.decode(self.signed)
        except InvalidInput as error:
            _refuse("signature verification failed", str(error))
        lossy = self.kind.lossy
        different = next(cbor.differences(content, self.payload, lossy_did_documents=lossy), None)
        if different is not None:
            _refuse("signature verification failed", f"the JSON is not what was signed: {different[:200]}")

    def _reads_the_same(self) -> bool:
        """Whether the JSON, encoded, is the signed bytes: from Go and from us it is, and no question is left.

        Decoding and comparing takes several times as long.
        """
        try:
            return cbor.encode(self.payload) == self.signed
        except (MailioError, ValueError):
            return False


def sign_request(kind: Kind, payload: object, keys: SigningKeys, sender_domain: str) -> bytes:
    """Return the body of a request, its payload being a struct or JSON-like data in declaration order.

    Raises InvalidInput for what CBOR can't say.
    """
    plain = msgspec.to_builtins(payload)
    return _body(kind.request, plain, plain, keys, sender_domain)


def sign_reply(
    kind: Kind, payload: object, keys: SigningKeys, sender_domain: str = "", *, lossy: bool = False
) -> bytes:
    """Return the body of a reply; only a message's receipt names its sender. Raises InvalidInput.

    With `lossy`, DID documents are signed as a Go server does it, without id and key. Ours are signed in
    full: no reader minds, and the signature covers what matters most.
    """
    plain = msgspec.to_builtins(payload)
    content = _with_float_times(plain) if kind is HANDSHAKE_LOOKUP else plain
    return _body(kind.reply, plain, _as_go_signs(content) if lossy else content, keys, sender_domain)


def _body(name: str, plain: object, content: object, keys: SigningKeys, sender_domain: str) -> bytes:
    signed = cbor.encode(content)
    body: dict[str, object] = {
        name: plain,
        "cborPayloadBase64": to_base64(signed),
        "signatureBase64": to_base64(keys.sign(signed)),
    }
    if sender_domain:
        body["senderDomain"] = sender_domain
    return msgspec.json.encode(body)


def _with_float_times(payload: dict[str, Any]) -> dict[str, Any]:
    """Give the contents of handshakes their `created` as a float, as everywhere in CBOR (Q2)."""
    contents = [{**content, "created": float(content["created"])} for content in payload["handshakes"]]
    return {**payload, "handshakes": contents}


def _as_go_signs(value: object) -> Any:
    """Lose what a Go server's CBOR of a DID document loses (wire spec section 1.7, Q4)."""
    if isinstance(value, dict):
        found = {name: _as_go_signs(member) for name, member in value.items()}
        document = found.get("didDocument")
        if isinstance(document, dict) and "id" in document:
            document["id"] = {}
        if "publicKeyJwk" in found:
            found["publicKeyJwk"] = {"Key": {}}
        return found
    return [_as_go_signs(element) for element in value] if isinstance(value, list) else value


def open_request(kind: Kind, body: bytes) -> Opened:
    """Read a request. Raises InvalidEnvelope with the texts of section 3.2, LimitExceeded."""
    envelope = _read(body)
    opened = _open(kind, kind.request, envelope)
    if not opened.sender_domain:
        _refuse("error in field SenderDomain, tag required, parameter ")
    return opened


def open_reply(kind: Kind, body: bytes) -> Opened:
    """Read a reply, as `open_request` does; a reply may lack the sender's domain."""
    return _open(kind, kind.reply, _read(body))


def _open(kind: Kind, name: str, envelope: Mapping[str, Any]) -> Opened:
    sender = envelope.get("senderDomain", "")
    if not isinstance(sender, str) or not isinstance(payload := envelope.get(name), dict):
        _refuse("Invalid request body")
    if len(sender) > MAX_SENDER_DOMAIN:
        _refuse("invalid domain")
    return Opened(
        kind=kind,
        payload=payload,
        signed=_bytes(envelope, "cborPayloadBase64", "CborPayloadBase64", None),
        signature=_bytes(envelope, "signatureBase64", "SignatureBase64", SIGNATURE_BYTES),
        sender_domain=sender,
    )


def _bytes(envelope: Mapping[str, Any], name: str, field: str, length: int | None) -> bytes:
    text = envelope.get(name, "")
    if not isinstance(text, str):
        _refuse("Invalid request body")
    if not text:
        _refuse(f"error in field {field}, tag required, parameter ")
    try:
        return from_base64(text, length=length, limit=cbor.MAX_BYTES * 4 // 3 + 4)
    except InvalidInput:
        _refuse(f"error in field {field}, tag base64, parameter ")


def _refuse(public: str, private: str = "") -> NoReturn:
    raise InvalidEnvelope(public, private) from None


_decoder = decoder(MAX_NUMBER_DIGITS)


def _read(body: bytes) -> dict[str, Any]:
    """Read the JSON object of a body: each name once, nested within bounds, no number beyond CBOR's."""
    # Commas and brackets count all values, and no text of an envelope has many of its own. Counting
    # costs nothing; a list of a million lists costs a hundred times its length in memory.
    brackets = body.count(b"[") + body.count(b"{")
    if brackets + body.count(b",") > cbor.MAX_ITEMS:
        raise LimitExceeded("the request has too many members")
    try:
        envelope = _decoder.decode(body.decode())
    except (ValueError, RecursionError) as error:
        _refuse("Invalid request body", str(error)[:200])
    if not isinstance(envelope, dict):
        _refuse("Invalid request body")
    # Few brackets can't be many levels: an honest message has a dozen.
    if brackets > MAX_DEPTH and is_deeper(envelope, MAX_DEPTH):
        raise LimitExceeded("the request is nested too deep")
    return envelope
