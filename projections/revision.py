"""Revisions and revision trees by CouchDB's documented rules (replication protocol; wire spec section 6).

A revision is named `<generation>-<hash>`; a document's revisions form a forest, because replicas may
edit the same revision differently, and because old ancestors are forgotten (stemming). Every replica
that knows the same paths picks the same winner.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

import msgspec

from events.errors import CorruptRecord, InvalidInput, NotFound

REVS_LIMIT: Final = 1000
"""Ancestors kept for each leaf, the leaf included: CouchDB's default `_revs_limit`."""

MAX_GENERATION: Final = 2**53 - 1
"""The highest generation: the largest integer that every JSON reader keeps exactly (RFC 8259, section 6)."""

MAX_HASH_LENGTH: Final = 128
"""Characters of a revision's hash. CouchDB makes 32; other replicas may use any short text."""

_REVISION: Final = re.compile(rf"([1-9][0-9]{{0,15}})-([!-~]{{1,{MAX_HASH_LENGTH}}})", re.ASCII)
_HEX32: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


class NamedDigest(Protocol):
    """What a revision depends on of an attachment."""

    @property
    def name(self) -> str:
        """File name, unique in the document."""

    @property
    def digest(self) -> str:
        """`md5-<base64>` of the content."""


class Outcome(StrEnum):
    """What a merged path was to the tree."""

    NEW_LEAF = "new_leaf"
    """A new revision that continues a leaf, or the document's first."""
    NEW_BRANCH = "new_branch"
    """A new revision beside the leaves: a conflict (or a deleted conflict)."""
    INTERNAL = "internal"
    """A revision that has successors already."""
    KNOWN = "known"
    """A leaf that was there already."""


def parse(rev: str) -> tuple[int, str]:
    """Split `<generation>-<hash>`; raise InvalidInput unless it is well-formed and within bounds."""
    match = _REVISION.fullmatch(rev)
    if match is None or (generation := int(match[1])) > MAX_GENERATION:
        raise InvalidInput("malformed revision", f"revision {rev[:64]!r}")
    return generation, match[2]


def computed(parent: str | None, deleted: bool, body: bytes, attachments: Sequence[NamedDigest] = ()) -> str:
    """Name the revision that follows `parent` with this content: the same inputs, the same name.

    `body` is the document's canonical JSON. The order of the attachments does not matter. Raises
    InvalidInput when `parent` is malformed or has the last generation.
    """
    generation = parse(parent)[0] + 1 if parent is not None else 1
    if generation > MAX_GENERATION:
        raise InvalidInput("too many revisions", f"parent {parent}")
    parts = [(parent or "").encode(), b"\x01" if deleted else b"\x00", body]
    for file in sorted(attachments, key=lambda a: a.name):
        parts += (file.name.encode(), file.digest.encode())
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        # The length before each part keeps ("ab", "c") and ("a", "bc") apart.
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return f"{generation}-{state.hexdigest()}"


def order(rev: str) -> tuple[int, bytes]:
    """Key that sorts revisions as CouchDB does: by generation, then by the bytes of the hash."""
    generation, _, digest = rev.partition("-")
    return int(generation), digest.encode()


def require_path(path: Sequence[str]) -> None:
    """Raise InvalidInput unless these are well-formed revisions whose generations fall by one."""
    if not path:
        raise InvalidInput("a revision needs a name", "empty revision path")
    above = 0
    for rev in path:
        generation = parse(rev)[0]
        if above and generation != above - 1:
            raise InvalidInput("malformed revision history", f"{rev[:64]} after generation {above}")
        above = generation


class _Chain(NamedTuple):
    """A leaf with its ancestors as encoded: `hashes` newest first.

    `joined` says that the last hash is a revision of an earlier chain, where this one branches off.
    """

    generation: int
    deleted: bool
    hashes: tuple[bytes, ...]
    joined: bool


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[tuple[int, bool, tuple[bytes, ...], bool], ...]).decode


def _packed(digest: str) -> bytes:
    """A hash as bytes: 16 of them are 32 hex digits; any other text ends in NUL and is not 16 long."""
    if _HEX32.fullmatch(digest):
        return bytes.fromhex(digest)
    text = digest.encode() + b"\0"
    return text + b"\0" if len(text) == 16 else text


def _text(digest: bytes) -> str:
    return digest.rstrip(b"\0").decode()


def _unpacked(generation: int, digest: bytes) -> str:
    return f"{generation}-{digest.hex() if len(digest) == 16 else _text(digest)}"


def encoded_first(rev: str, deleted: bool) -> bytes:
    """Pack the tree of a document with one revision, as `RevisionTree.encode` does, without making it.

    Raises InvalidInput when the revision is malformed.
    """
    generation, digest = parse(rev)
    return _encode(((generation, deleted, (_packed(digest),), False),))


class RevisionTree:
    """The known revisions of a document: an immutable value; `merge` gives a new tree.

    Two trees are equal when they know the same revisions, links and deleted leaves.
    """

    __slots__ = ("_leaves", "_parents", "_winner")

    _parents: dict[str, str | None]
    _leaves: dict[str, bool]
    _winner: str | None

    def __init__(self) -> None:
        self._parents = {}
        self._leaves = {}
        self._winner = None

    @classmethod
    def _of(cls, parents: dict[str, str | None], leaves: dict[str, bool]) -> RevisionTree:
        tree = cls()
        tree._parents = parents
        tree._leaves = leaves
        if len(leaves) == 1:
            (tree._winner,) = leaves
        elif leaves:
            tree._winner = max(leaves, key=lambda rev: (not leaves[rev], order(rev)))
        return tree

    # Reading

    def __bool__(self) -> bool:
        return bool(self._parents)

    def __len__(self) -> int:
        return len(self._parents)

    def __contains__(self, rev: object) -> bool:
        return rev in self._parents

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RevisionTree):
            return NotImplemented
        return self._parents == other._parents and self._leaves == other._leaves

    def __hash__(self) -> int:
        return hash((frozenset(self._parents.items()), frozenset(self._leaves.items())))

    def __repr__(self) -> str:
        return f"RevisionTree({self._winner}, {len(self._leaves)} leaves, {len(self._parents)} revisions)"

    @property
    def winner(self) -> str:
        """The revision that readers see: not deleted before deleted, then generation, then hash.

        Raises NotFound on the empty tree.
        """
        if self._winner is None:
            raise NotFound("missing", "an empty revision tree has no winner")
        return self._winner

    @property
    def deleted(self) -> bool:
        """Whether the winner is deleted, hence the whole document."""
        return self._leaves[self.winner]

    def leaves(self) -> tuple[str, ...]:
        """All leaf revisions, the winner first, then in the same order."""
        if len(self._leaves) == 1:
            return tuple(self._leaves)
        return tuple(sorted(self._leaves, key=lambda rev: (not self._leaves[rev], order(rev)), reverse=True))

    def conflicts(self) -> tuple[str, ...]:
        """Leaves that are neither deleted nor the winner, best first (`_conflicts`)."""
        return tuple(rev for rev in self.leaves()[1:] if not self._leaves[rev])

    def deleted_conflicts(self) -> tuple[str, ...]:
        """Deleted leaves other than the winner, best first (`_deleted_conflicts`)."""
        return tuple(rev for rev in self.leaves()[1:] if self._leaves[rev])

    def contains(self, rev: str) -> bool:
        """Tell whether the revision is known."""
        return rev in self._parents

    def is_leaf(self, rev: str) -> bool:
        """Tell whether the revision is known and has no successor."""
        return rev in self._leaves

    def is_deleted(self, rev: str) -> bool:
        """Tell whether the revision is a deleted leaf."""
        return self._leaves.get(rev, False)

    def may_have_forgotten(self, rev: str) -> bool:
        """Tell whether `rev` may be an ancestor that stemming took: some branch begins after it."""
        generation = parse(rev)[0]
        roots = (root for root, parent in self._parents.items() if parent is None)
        return rev not in self._parents and any(order(root)[0] > generation for root in roots)

    def ancestry(self, rev: str) -> tuple[str, ...]:
        """The known path from `rev` to its oldest ancestor, newest first (`_revisions`).

        Raises NotFound when the revision is unknown.
        """
        if rev not in self._parents:
            raise NotFound("missing", f"unknown revision {rev[:64]}")
        path = []
        at: str | None = rev
        while at is not None:
            path.append(at)
            at = self._parents[at]
        return tuple(path)

    def missing(self, revs: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Answer `_revs_diff`: (revisions not known here, leaves that may be ancestors of them).

        A leaf may be an ancestor when its generation is below that of a missing revision. Raises
        InvalidInput when a revision is malformed.
        """
        generations = {rev: parse(rev)[0] for rev in revs}
        absent = tuple(rev for rev in generations if rev not in self._parents)
        newest = max((generations[rev] for rev in absent), default=0)
        return absent, tuple(leaf for leaf in self.leaves() if order(leaf)[0] < newest)

    # Growing

    def merge(
        self, path: Sequence[str], deleted: bool = False, revs_limit: int = REVS_LIMIT
    ) -> tuple[RevisionTree, Outcome]:
        """Add a revision with its known ancestors, newest first; tell what it was to the tree.

        `deleted` belongs to the newest one. Ancestors further than `revs_limit` from every leaf are
        forgotten. Also a KNOWN or INTERNAL path may tell of links that were not known, and so turn a
        leaf into an ancestor. Where a path contradicts a known link, the first one told stays.
        Raises InvalidInput on malformed paths.
        """
        require_path(path)
        head = path[0]
        if not self._parents and len(path) == 1:
            return RevisionTree._of({head: None}, {head: deleted}), Outcome.NEW_LEAF
        outcome = self._standing(head)
        parents = dict(self._parents)
        linked = _link(parents, path)
        if outcome is not None and not linked:
            return self, outcome
        leaves = {rev: gone for rev, gone in self._leaves.items() if rev not in linked}
        if outcome is None:
            leaves[head] = deleted
            grown = bool(self._leaves) and len(leaves) > len(self._leaves)
            outcome = Outcome.NEW_BRANCH if grown else Outcome.NEW_LEAF
        return RevisionTree._of(_stemmed(parents, leaves, revs_limit), leaves), outcome

    def _standing(self, rev: str) -> Outcome | None:
        if rev in self._leaves:
            return Outcome.KNOWN
        return Outcome.INTERNAL if rev in self._parents else None

    # Bytes

    def encode(self) -> bytes:
        """Pack the tree; equal trees give equal bytes. About 18 bytes a revision."""
        seen: set[str] = set()
        return _encode([self._chain(leaf, seen) for leaf in self.leaves()])

    def _chain(self, leaf: str, seen: set[str]) -> _Chain:
        generation, _, digest = leaf.partition("-")
        hashes = [_packed(digest)]
        seen.add(leaf)
        at = self._parents[leaf]
        while at is not None:
            hashes.append(_packed(at.partition("-")[2]))
            if at in seen:
                break
            seen.add(at)
            at = self._parents[at]
        return _Chain(int(generation), self._leaves[leaf], tuple(hashes), at is not None)

    @classmethod
    def decode(cls, data: bytes) -> RevisionTree:
        """Unpack what `encode` gave; raise CorruptRecord on other bytes."""
        try:
            return cls._grown(_decode(data))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptRecord("unreadable revision tree", str(error)) from error

    @classmethod
    def _grown(cls, chains: Iterable[tuple[int, bool, tuple[bytes, ...], bool]]) -> RevisionTree:
        parents: dict[str, str | None] = {}
        leaves: dict[str, bool] = {}
        for generation, deleted, hashes, joined in chains:
            below: str | None = None
            for distance, digest in enumerate(hashes):
                rev = _unpacked(generation - distance, digest)
                if below is None:
                    leaves[rev] = deleted
                else:
                    parents[below] = rev
                below = rev
            if below is not None and not joined:
                parents[below] = None
        return cls._of(parents, leaves)


def _link(parents: dict[str, str | None], path: Sequence[str]) -> set[str]:
    """Add the path to `parents`; return the revisions that got a successor by it."""
    linked = set()
    for child, parent in itertools.pairwise(path):
        known = parents.get(child)
        if known is None:
            parents[child] = parent
            linked.add(parent)
        elif known != parent:
            return linked
    parents.setdefault(path[-1], None)
    return linked


def _stemmed(parents: dict[str, str | None], leaves: Iterable[str], limit: int) -> dict[str, str | None]:
    """Forget the revisions that are `limit` or more steps above every leaf."""
    if len(parents) <= limit:
        return parents
    kept: set[str] = set()
    front = set(leaves)
    for _ in range(limit):
        kept |= front
        above = {parents[rev] for rev in front}
        front = {rev for rev in above if rev is not None and rev not in kept}
        if not front:
            break
    return {rev: parent if parent in kept else None for rev, parent in parents.items() if rev in kept}
