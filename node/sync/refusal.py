"""What the door answers when it says no: CouchDB's status, `error` and `reason`."""

from __future__ import annotations

from typing import Any

from events.errors import (
    Busy,
    Conflict,
    Forbidden,
    InvalidInput,
    LimitExceeded,
    MailboxFull,
    MailioError,
    NotFound,
    StorageUnavailable,
    Unauthenticated,
)


class Refusal(MailioError):
    """A refusal in CouchDB's words. `status` is the HTTP status, `error` the machine-readable name."""

    def __init__(self, status: int, error: str, reason: str, private: str = "") -> None:
        super().__init__(reason, private)
        self.status = status
        self.error = error

    @property
    def row(self) -> dict[str, Any]:
        """The body of the answer, or the error part of a row of a bulk answer."""
        return {"error": self.error, "reason": self.public}


def bad_request(reason: str, private: str = "") -> Refusal:
    """Refuse a request that is malformed (400)."""
    return Refusal(400, "bad_request", reason, private)


def query_parse_error(reason: str) -> Refusal:
    """Refuse a query parameter that can't be read (400)."""
    return Refusal(400, "query_parse_error", reason)


def illegal_docid(reason: str) -> Refusal:
    """Refuse a document id (400)."""
    return Refusal(400, "illegal_docid", reason)


def doc_validation(reason: str) -> Refusal:
    """Refuse a member of a document that CouchDB reserves (400)."""
    return Refusal(400, "doc_validation", reason)


def forbidden(reason: str, private: str = "") -> Refusal:
    """Refuse what nobody, or this user, may do (403)."""
    return Refusal(403, "forbidden", reason, private)


def not_found(reason: str) -> Refusal:
    """Say that there is no such thing (404)."""
    return Refusal(404, "not_found", reason)


def conflict() -> Refusal:
    """Say that the revision is not the current one (409)."""
    return Refusal(409, "conflict", "Document update conflict.")


def missing_stub(reason: str) -> Refusal:
    """Refuse a stub that names no stored attachment of its own document (412)."""
    return Refusal(412, "missing_stub", reason)


def too_large(reason: str) -> Refusal:
    """Refuse what is above a limit (413)."""
    return Refusal(413, "too_large", reason)


def not_allowed(*methods: str) -> Refusal:
    """Refuse the method (405)."""
    return Refusal(405, "method_not_allowed", f"Only {','.join(methods)} allowed")


_NAMES: tuple[tuple[type[MailioError], str], ...] = (
    (MailboxFull, "insufficient_storage"),
    (InvalidInput, "bad_request"),
    (Unauthenticated, "unauthorized"),
    (Forbidden, "forbidden"),
    (NotFound, "not_found"),
    (Conflict, "conflict"),
    (LimitExceeded, "too_large"),
    (Busy, "service_unavailable"),
    (StorageUnavailable, "service_unavailable"),
)


def refusal_of(error: MailioError) -> Refusal:
    """Put an error of the tree into CouchDB's words; private texts stay private."""
    if isinstance(error, Refusal):
        return error
    name = next((name for kind, name in _NAMES if isinstance(error, kind)), "internal_server_error")
    return Refusal(error.http, name, error.public, error.private)
