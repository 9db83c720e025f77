"""Bounds on what one client of the sync door may ask for. Sizes in bytes, times in milliseconds."""

from __future__ import annotations

import msgspec


class SyncLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sync door's limits. Each default is above what PouchDB and the CouchDB replicator need."""

    body_bytes: int = 67_108_864
    """Body of one request: a replication batch with a few large attachments."""
    inflate_ratio: int = 100
    """A compressed body may grow at most this many times; JSON text reaches about 20."""
    document_bytes: int = 8_388_608
    """JSON of one document without attachments: CouchDB's own default."""
    attachment_bytes: int = 33_554_432
    """One attachment; mail systems rarely carry more than 25 MB in a whole message."""
    attachments_per_document: int = 200
    """Attachments of one document: as many as a message may have parts worth keeping."""
    documents_per_request: int = 5_000
    """Documents, ids or keys in one request; replicators send 100 to 2,000."""
    json_depth: int = 100
    """Nesting of arrays and objects; hand-made documents stay below 10."""
    id_bytes: int = 2_048
    """A document's id; a Message-ID may have 998 (RFC 5322 section 2.1.1), and it must fit in a URL."""
    local_bytes: int = 262_144
    """A `_local` document; a checkpoint with its history has about 5,000."""
    revisions: int = 1_000
    """Revisions named for one document: CouchDB's default `_revs_limit`."""
    feeds_per_user: int = 32
    """Feeds of one user that wait at the same time: a few per device and tab."""
    feed_timeout_ms: int = 60_000
    """How long a feed without heartbeat waits for a change, at most and by default (CouchDB's default)."""
    heartbeat_min_ms: int = 1_000
    """The fastest heartbeat: faster ones only burn batteries. Slower than the timeout is not granted."""
    feed_lifetime_ms: int = 3_600_000
    """A feed ends after this time and the client comes back: so long may a withdrawn right still listen."""
    rows_per_slice: int = 100
    """Documents read before other clients get their turn: about 2 ms."""
    pending_rows: int = 1_000
    """`pending` counts no further than this: it is a progress display, not worth a scan."""
    selector_bytes: int = 65_536
    """JSON of a selector."""
    selector_depth: int = 20
    """Nesting of a selector; query builders reach about 6."""
    selector_terms: int = 200
    """Conditions in a selector; query builders reach about 20."""
    selector_steps: int = 2_500_000
    """Work that the selector of one request may take for all documents together: about a second. A step is a
    condition, an element of an array that is asked about, or eight characters to be put in order."""
    regex_characters: int = 256
    """Pattern of `$regex`."""
    regex_steps: int = 500_000
    """Work that all `$regex` of one request may take together: about 0.3 s."""
    find_documents: int = 20_000
    """Documents that one `_find` without a usable index may look at."""
    find_rows: int = 10_000
    """Rows of one `_find` answer."""
    find_fields: int = 100
    """Fields that one `_find` names to show, or to sort by; documents have about 20."""
    superseded_bytes: int = 33_554_432
    """Replaced revisions remembered, of all users together, for clients that are just fetching them."""
    view_wait_ms: int = 30_000
    """How long a write waits for the user's own earlier write to become visible."""
