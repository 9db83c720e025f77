"""What other nodes may ask of this one; each bound is a setting with its reason."""

from __future__ import annotations

import msgspec

from node.crypto.did_documents import MESSAGING_PATH


class MtpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The door for other Mailio nodes."""

    messaging_path: str = MESSAGING_PATH
    """Path at which messages are taken, as DID documents name it; the path of the reference server works
    besides."""
    window_seconds: int = 600
    """How far the time in a request may be from the time here. 0: any time is taken, that of a replay too."""
    message_bytes: int = 83_886_080
    """Largest request body: 80 MiB. A message is in it twice, as JSON and as base64 of CBOR, and attachments
    are base64 besides: 24 MiB of files."""
    lookup_bytes: int = 262_144
    """Largest body of a lookup: fifty of them have some 10 KB."""
    at_once_bytes: int = 268_435_456
    """Bytes of bodies that are read or worked on at once; they take some four times as much memory. One
    client address may hold a quarter of it, or one message."""
    requests_per_second: float = 50.0
    """Requests of one peer, whose signature holds. The reference server allows 10 (wire spec section 3.8)."""
    request_burst: int = 200
    """Requests that one peer may make at once after a pause: what has waited while we were away."""
    requests_at_once: int = 32
    """Requests of one peer that are worked on at once."""
    address_requests_per_second: float = 200.0
    """Requests from one client address, whoever they claim to be of. Several peers may share a proxy."""
    address_request_burst: int = 1_000
    """Requests that one client address may make at once after a pause."""
    address_requests_at_once: int = 128
    """Requests of one client address that are being read or worked on at once."""

    def __post_init__(self) -> None:
        """Raise ValueError for bounds that let nobody in, and for a path that is none."""
        for name, value in msgspec.structs.asdict(self).items():
            if name not in {"messaging_path", "window_seconds"} and value <= 0:
                raise ValueError(f"{name} must be positive")
        if self.window_seconds < 0:
            raise ValueError("window_seconds can't be negative")
        if not self.messaging_path.startswith("/api/") or any(
            sign in self.messaging_path for sign in "{}?# "
        ):
            raise ValueError("messaging_path must be a plain path below /api/")
