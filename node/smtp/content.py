"""The message content after DATA: found, unstuffed and measured chunk by chunk.

Only CRLF . CRLF ends it (RFC 5321 section 4.1.1.4). A CR or LF that stands alone is counted and never
ends anything: that is the whole defence against smuggling (CVE-2023-51764 and its kin).
"""

from __future__ import annotations

from node.smtp import replies
from node.smtp.limits import SmtpLimits
from node.smtp.replies import Reply

_END = b"\r\n.\r\n"
_STUFFED = b"\r\n."


class Memory:
    """Message bytes that all sessions of a door may hold together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def take(self, size: int) -> bool:
        """Reserve `size` bytes, or say no."""
        if self.held + size > self.limit:
            return False
        self.held += size
        return True

    def give(self, size: int) -> None:
        """Give reserved bytes back."""
        self.held -= size


class Content:
    """Reads one message. After a fault the rest is still read, and thrown away.

    `received` counts octets as they came, `fault` is the answer that the message will get.
    """

    def __init__(self, limits: SmtpLimits, memory: Memory) -> None:
        # The CRLF of the DATA command counts as the one before the first line.
        self._raw = bytearray(b"\r\n")
        self._limits = limits
        self._memory = memory
        self._reserved = 0
        self._line = self._measured = 2
        self._stuffed = 0
        self._returns = self._newlines = self._pairs = 0
        self._nul = False
        self.received = 0
        self.fault: Reply | None = None

    @property
    def overrun(self) -> bool:
        """Whether so much came after a fault that it is no longer worth reading."""
        limits = self._limits
        return self.fault is not None and self.received > limits.message_bytes + limits.overrun_bytes

    def feed(self, data: bytes | bytearray) -> bytes | None:
        """Take more bytes. None: not ended yet; else what came behind the end of the message."""
        raw = self._raw
        if self.fault is None and not self._memory.take(len(data)):
            self.fault = replies.NO_MEMORY
        elif self.fault is None:
            self._reserved += len(data)
        old = len(raw)
        raw += data
        end = raw.find(_END, max(old - 4, 0))
        # What may yet turn out to be the end of the message is not measured before it is known.
        stop = max(len(raw) - 4, self._measured) if end < 0 else end + 2
        self.received += len(data)
        if self.fault is None:
            self._measure(self._measured, stop)
        if end >= 0:
            rest = bytes(raw[end + 5 :])
            del raw[stop:]
            self._judge()
            return rest
        if self.fault is not None:
            self._discard()
        return None

    def take(self) -> bytes:
        """Return the message without its dot-stuffing, every other byte as it came. Once, at the end."""
        raw = self._raw
        if self._stuffed:
            raw = raw.replace(_STUFFED, b"\r\n")
        self._raw = bytearray()
        return bytes(memoryview(raw)[2:])

    def release(self) -> None:
        """Give the reserved memory back; may be called again."""
        self._memory.give(self._reserved)
        self._reserved = 0

    def _measure(self, old: int, stop: int) -> None:
        """Count what is new, up to `stop`."""
        raw = self._raw
        self._returns += raw.count(b"\r", old, stop)
        self._newlines += raw.count(b"\n", old, stop)
        self._pairs += raw.count(b"\r\n", old - 1, stop)
        self._stuffed += raw.count(_STUFFED, old - 2, stop)
        self._nul = self._nul or raw.find(b"\0", old, stop) >= 0
        self._measured = stop
        # SIZE counts the message without the transparency dots (RFC 1870 section 5).
        if stop - 2 - self._stuffed > self._limits.message_bytes:
            self.fault = replies.TOO_BIG
        elif self._has_long_line(stop):
            self.fault = replies.TEXT_LINE_TOO_LONG

    def _has_long_line(self, stop: int) -> bool:
        """Leap from the last line end within reach to the next; one leap passes many short lines."""
        raw, limit, line = self._raw, self._limits.line_bytes, self._line
        while stop - line > limit:
            # A transparency dot does not count (RFC 5321 section 4.5.3.1.6).
            reach = line + limit + (raw[line] == ord("."))
            newline = raw.rfind(b"\n", line, reach)
            if newline < 0:
                return True
            line = newline + 1
        self._line = line
        return False

    def _judge(self) -> None:
        """Settle at the end what can only be known there."""
        if self.fault is not None:
            return
        alone = self._returns != self._pairs or self._newlines != self._pairs
        if alone and self._limits.bare_newlines == "refuse":
            self.fault = replies.BARE_NEWLINE
        elif self._nul and self._limits.nuls == "refuse":
            self.fault = replies.NUL_IN_MESSAGE

    def _discard(self) -> None:
        """Keep only what the end of the message may begin with."""
        del self._raw[:-4]
        self.release()
