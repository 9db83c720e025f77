"""What a peer's answer to a message means for its sender (wire spec section 3.3.4, with better classes).

The reference server records every HTTP error as temporary and every broken connection as permanent, and
retries neither. Here a fault of the network or of the peer's server is temporary; a refusal that a later
zone, key or release may lift is tried a few times; the rest is final. What a peer says is kept as text
without control characters, and never decides more than its own message.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from events.attempt import Cause, Outcome, Verdict
from events.errors import MailioError
from node.discovery.fetch import Fetched
from node.mtp import status
from node.mtp.envelope import MESSAGE, Opened, open_reply
from node.mtp.message import read_receipt
from node.rate import TooManyRequests
from node.smtp.replies import printable

RECEIPT_BYTES: Final = 65_536
"""Largest answer that is read: a receipt has 700 bytes."""

TEXT: Final = 200
"""Characters kept of what a peer says."""

MAX_ASKED_MS: Final = 7 * 86_400_000
"""Longest Retry-After that is looked at; the settings cut it further."""

FINAL: Final[Mapping[int, status.Code]] = {
    400: status.BAD_SYNTAX,
    403: status.REFUSED,
    404: status.BAD_MAILBOX,
    409: status.DUPLICATE_ID,
    413: status.MESSAGE_TOO_BIG,
    422: status.BAD_SYNTAX,
}
"""Refusals that stand, when a node gives them with its reason. Without one they come from a proxy."""

OTHER_KEY: Final = "signature verification failed"
"""What a peer says that holds no key, or another one, of ours."""

MISTAKEN: Final = (OTHER_KEY, "no mailio dns record", "invalid domain")
"""What a peer says whose view of our zone may lag: our key has changed, or its resolver fails."""


class _Refusal(msgspec.Struct):
    """Both shapes of error bodies (wire spec section 0.3)."""

    message: str = ""
    error: str = ""


def later(
    cause: Cause, code: status.Code | str, text: str, *, retry_after: int = 0, answered: bool = True
) -> Outcome:
    """Return the outcome of an attempt that is made again; `answered`: it was the peer who said so."""
    return Outcome(
        verdict=Verdict.LATER,
        cause=cause,
        code=str(code),
        text=printable(text, TEXT),
        retry_after=retry_after,
        answered=answered,
    )


def final(code: status.Code | str, text: str, *, answered: bool = True) -> Outcome:
    """Return the outcome of a delivery that has failed."""
    return Outcome(verdict=Verdict.FINAL, code=str(code), text=printable(text, TEXT), answered=answered)


def of_error(error: MailioError) -> Outcome:
    """Judge what went wrong before the peer answered: DNS, documents, the connection."""
    text = error.public
    if isinstance(error, TooManyRequests):
        pause = error.retry_after * 1000
        return later(Cause.BUSY, status.CONGESTION, text, retry_after=pause, answered=False)
    if error.temporary:
        return later(Cause.UNREACHABLE, error.mtp, text, answered=False)
    # A record, document or address that can't be used now may be put right.
    return later(Cause.REFUSED, temporary(error.mtp), text, answered=False)


def temporary(code: str) -> str:
    """Return the code in class 4: what looks final and may be put right."""
    return "4" + code[1:] if code.startswith("5.") else code


def of_status(answer: Fetched, now: int) -> Outcome | None:
    """Judge an HTTP status; None for success, which the receipt decides."""
    said = _said(answer)
    text = f"HTTP {answer.status}" + (f": {said}" if said else "")
    asked = asked_pause(answer.retry_after, now)
    match answer.status:
        case code if 200 <= code < 300:
            return None
        case 429 if said and not asked:
            # What one recipient agreed to with one sender: nobody else's messages have to wait for it.
            return later(Cause.REFUSED, status.FREQUENCY_EXCEEDED, text)
        case 429:
            return later(Cause.BUSY, status.CONGESTION, text, retry_after=asked)
        case 503 if asked:
            return later(Cause.BUSY, status.CONGESTION, text, retry_after=asked)
        case 507:
            # Room in one mailbox: no fault of the peer, and nothing that others should wait for.
            return later(Cause.REFUSED, "4.2.2", text)
        case code if code >= 500 or code in {408, 425}:
            return later(Cause.UNREACHABLE, status.UNABLE_TO_ROUTE_NOW, text)
        case code if code in FINAL and (said or code == 413) and not said.lower().startswith(MISTAKEN):
            return final(FINAL[code], text)
        case _:
            return later(Cause.REFUSED, status.UNABLE_TO_ROUTE_NOW, text)


def holds_another_key(answer: Fetched) -> bool:
    """Whether the peer refused the signature: while our keys change it may hold the other one."""
    return answer.status == 400 and _said(answer).lower().startswith(OTHER_KEY)


def _said(answer: Fetched) -> str:
    try:
        refusal = msgspec.json.decode(answer.body, type=_Refusal)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return ""
    return printable(refusal.message or refusal.error, TEXT)


def asked_pause(text: str, now: int) -> int:
    """Read a Retry-After header (RFC 9110 section 10.2.3) as milliseconds from `now`; nonsense is 0."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:9]) * 1000, MAX_ASKED_MS)
    try:
        date = parsedate_to_datetime(text)
        at = int(date.replace(tzinfo=date.tzinfo or UTC).timestamp() * 1000)
    except (ValueError, OverflowError, TypeError, IndexError):
        return 0
    return max(0, min(at - now, MAX_ASKED_MS))


def opened_receipt(answer: Fetched) -> Opened | Outcome:
    """Read the envelope of a receipt, or say why it is none."""
    try:
        return open_reply(MESSAGE, answer.body)
    except MailioError as error:
        return _wrong(f"the receipt can't be read: {error.public}")


def of_receipt(opened: Opened, message_id: str, server: str) -> Outcome:
    """Judge a receipt whose signature holds."""
    try:
        opened.require_covered()
        echoed = read_receipt(opened.payload).did_comm_message.id
    except MailioError as error:
        return _wrong(f"the receipt can't be read: {error.public}")
    if echoed != message_id:
        return _wrong("the receipt is for another message")
    return Outcome(verdict=Verdict.DELIVERED, code=str(status.DELIVERED), text="message sent", server=server)


def unsigned(server: str) -> Outcome:
    """Say that nobody who may has signed the receipt."""
    return _wrong(f"the receipt is not signed by {server}")


def _wrong(text: str) -> Outcome:
    return later(Cause.REFUSED, status.UNABLE_TO_ROUTE_NOW, text)
