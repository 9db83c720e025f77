"""Revision names and trees: CouchDB's rules, whatever the order of delivery."""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.errors import CorruptRecord, InvalidInput, NotFound
from projections.revision import (
    MAX_GENERATION,
    Outcome,
    RevisionTree,
    computed,
    encoded_first,
    order,
    parse,
)

Path = tuple[tuple[str, ...], bool]


class File(msgspec.Struct):
    name: str
    digest: str


def grown(*paths: Path, limit: int = 1000) -> RevisionTree:
    tree = RevisionTree()
    for path, deleted in paths:
        tree, _ = tree.merge(path, deleted, limit)
    return tree


# Names


@pytest.mark.parametrize("rev", ["1-" + "ab" * 16, "1-short", "7-" + "Z" * 16, "1-" + "AB" * 16])
@pytest.mark.parametrize("deleted", [False, True])
def test_a_first_revision_is_packed_like_the_tree_of_it(rev: str, deleted: bool) -> None:
    assert encoded_first(rev, deleted) == grown(((rev,), deleted)).encode()


@pytest.mark.parametrize("rev", ["", "0-a", "1-", "1", "malformed", "01-a", f"{MAX_GENERATION + 1}-a"])
def test_a_malformed_first_revision_is_not_packed(rev: str) -> None:
    with pytest.raises(InvalidInput):
        encoded_first(rev, deleted=False)


def test_a_first_revision_has_generation_one_and_a_hash_of_32_digits() -> None:
    generation, digest = parse(computed(None, False, b"{}"))
    assert generation == 1
    assert len(digest) == 32
    assert int(digest, 16) >= 0


def test_a_computed_revision_never_changes_between_versions_of_the_program() -> None:
    assert computed(None, False, b'{"a":1}') == GOLDEN_FIRST
    assert computed(GOLDEN_FIRST, True, b"{}", [File("a.txt", "md5-x")]) == GOLDEN_SECOND


GOLDEN_FIRST = "1-4aab857134bf1e2db02f71df50399f42"
GOLDEN_SECOND = "2-b985c1515ebe836eff0626ff1dcdd97e"


def test_each_input_of_a_revision_changes_its_name() -> None:
    one = computed(None, False, b"{}")
    names = {
        one,
        computed(one, False, b"{}"),
        computed("1-b", False, b"{}"),
        computed(None, True, b"{}"),
        computed(None, False, b'{"a":1}'),
        computed(None, False, b"{}", [File("a", "bc")]),
        computed(None, False, b"{}", [File("ab", "c")]),
    }
    assert len(names) == 7


def test_the_order_of_attachments_does_not_change_the_revision() -> None:
    files = [File("b", "1"), File("a", "2")]
    assert computed(None, False, b"{}", files) == computed(None, False, b"{}", files[::-1])


@pytest.mark.parametrize(
    "rev",
    [
        "",
        "1",
        "1-",
        "-a",
        "0-a",
        "01-a",
        "-1-a",
        "1-a b",
        "1-a\n",
        "1-é",
        "x-a",
        "١-a",
        f"{2**53}-a",
        "1-" + "a" * 129,
        "9" * 5000 + "-a",
    ],
)
def test_a_malformed_revision_is_refused(rev: str) -> None:
    with pytest.raises(InvalidInput):
        parse(rev)


def test_the_bounds_of_a_revision_are_accepted() -> None:
    assert parse(f"{2**53 - 1}-a") == (2**53 - 1, "a")
    assert parse("1-" + "a" * 128) == (1, "a" * 128)
    assert parse("2-a-b") == (2, "a-b")


def test_nothing_follows_the_last_generation() -> None:
    with pytest.raises(InvalidInput):
        computed(f"{MAX_GENERATION}-a", False, b"{}")


# Winners


def test_the_longest_branch_wins() -> None:
    tree = grown((("2-a", "1-a"), False), (("1-z",), False))
    assert tree.winner == "2-a"
    assert tree.conflicts() == ("1-z",)


def test_of_equally_long_branches_the_highest_hash_wins() -> None:
    tree = grown((("2-b", "1-a"), False), (("2-c", "1-a"), False), (("2-a", "1-a"), False))
    assert tree.leaves() == ("2-c", "2-b", "2-a")


def test_hashes_compare_by_bytes_and_generations_by_number() -> None:
    assert grown((("1-a",), False), (("1-B",), False)).winner == "1-a"
    ten = tuple(f"{n}-a" for n in range(10, 0, -1))
    assert grown((ten, False), (("9-z",), False)).winner == "10-a"


def test_a_living_leaf_beats_every_deleted_one() -> None:
    tree = grown((("3-a", "2-a", "1-a"), True), (("2-b", "1-a"), False))
    assert tree.winner == "2-b"
    assert not tree.deleted
    assert tree.conflicts() == ()
    assert tree.deleted_conflicts() == ("3-a",)


def test_a_document_whose_leaves_are_all_deleted_is_deleted() -> None:
    tree = grown((("2-a", "1-a"), True), (("3-b", "2-b", "1-a"), True))
    assert tree.deleted
    assert tree.winner == "3-b"


# Outcomes


def test_a_path_is_told_as_what_it_was_to_the_tree() -> None:
    tree, first = RevisionTree().merge(("1-a",))
    tree, second = tree.merge(("2-a", "1-a"))
    tree, branch = tree.merge(("2-b", "1-a"))
    same, known = tree.merge(("2-b", "1-a"))
    also, internal = tree.merge(("1-a",))
    assert (first, second, branch, known, internal) == (
        "new_leaf",
        "new_leaf",
        "new_branch",
        "known",
        "internal",
    )
    assert same is tree
    assert also is tree


def test_a_gap_in_the_history_is_closed_when_its_link_arrives() -> None:
    tree = grown((("2-a", "1-a"), False), (("4-a", "3-a"), False))
    assert tree.leaves() == ("4-a", "2-a")
    tree, outcome = tree.merge(("4-a", "3-a", "2-a"))
    assert outcome is Outcome.KNOWN
    assert tree.leaves() == ("4-a",)
    assert tree.ancestry("4-a") == ("4-a", "3-a", "2-a", "1-a")


def test_a_contradicting_history_does_not_move_a_known_revision() -> None:
    tree = grown((("3-c", "2-a"), False), (("3-c", "2-b", "1-z"), False))
    assert tree.ancestry("3-c") == ("3-c", "2-a")
    assert len(tree) == 2


@pytest.mark.parametrize("path", [(), ("1-a", "2-a"), ("3-a", "1-a"), ("2-a", "2-b"), ("2-a", "x")])
def test_a_path_whose_generations_do_not_fall_by_one_is_refused(path: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput):
        RevisionTree().merge(path)


def test_merging_leaves_the_old_tree_as_it_was() -> None:
    old = grown((("1-a",), False))
    old.merge(("2-a", "1-a"))
    assert old == grown((("1-a",), False))


# Asking


def test_revs_diff_names_what_is_missing_and_what_may_be_its_ancestor() -> None:
    tree = grown((("2-a", "1-a"), False), (("3-b", "2-b", "1-a"), False))
    assert tree.missing(["1-a", "3-x", "2-a"]) == (("3-x",), ("2-a",))
    assert tree.missing(["4-x"]) == (("4-x",), ("3-b", "2-a"))
    assert tree.missing(["2-b"]) == ((), ())
    with pytest.raises(InvalidInput):
        tree.missing(["nonsense"])


def test_the_ancestry_of_an_unknown_revision_is_not_found() -> None:
    with pytest.raises(NotFound):
        grown((("1-a",), False)).ancestry("1-b")


def test_the_empty_tree_has_no_winner() -> None:
    with pytest.raises(NotFound):
        _ = RevisionTree().winner
    assert not RevisionTree()


# Stemming and size


def test_stemming_forgets_what_is_far_from_every_leaf() -> None:
    path = tuple(f"{n}-a" for n in range(10, 0, -1))
    tree = grown((path, False), (("3-b", "2-a", "1-a"), False), limit=3)
    assert tree.ancestry("10-a") == ("10-a", "9-a", "8-a")
    assert tree.leaves() == ("10-a", "3-b")
    assert tree.ancestry("3-b") == ("3-b", "2-a", "1-a")
    assert not tree.contains("7-a")


def test_a_history_of_a_hundred_thousand_generations_is_no_trouble() -> None:
    path = tuple(f"{n}-{n:032x}" for n in range(100_000, 0, -1))
    tree, _ = RevisionTree().merge(path, revs_limit=200_000)
    assert len(tree.ancestry(path[0])) == 100_000
    assert RevisionTree.decode(tree.encode()) == tree
    stemmed, outcome = tree.merge((f"100001-{0:032x}", path[0]))
    assert outcome is Outcome.NEW_LEAF
    assert len(stemmed) == 1000


def test_a_revision_of_32_hex_digits_takes_less_than_20_bytes() -> None:
    path = tuple(f"{n}-{n:032x}" for n in range(500, 0, -1))
    assert len(grown((path, False)).encode()) < 20 * 500


@pytest.mark.parametrize(
    "digest", ["a", "f" * 32, "F" * 32, "x" * 14, "x" * 15, "x" * 16, "x" * 17, "0" * 128]
)
def test_a_hash_of_any_length_survives_its_bytes(digest: str) -> None:
    tree = grown(((f"2-{digest}", f"1-{digest}"), True))
    assert RevisionTree.decode(tree.encode()) == tree


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xc1", b"\x91\x01", b"\x91\x94\x01\xc3\x91\x01\xc2"])
def test_unreadable_bytes_are_a_corrupt_record(data: bytes) -> None:
    with pytest.raises(CorruptRecord):
        RevisionTree.decode(data)


# Properties: random histories, in any order


@st.composite
def histories(draw: st.DrawFn) -> list[Path]:
    """Paths cut at random from one random forest: what replicas may deliver about one document."""
    parents: dict[str, str | None] = {}
    for number in range(draw(st.integers(1, 14))):
        parent = draw(st.sampled_from([None, *parents]))
        generation = 1 if parent is None else order(parent)[0] + 1
        parents[f"{generation}-{draw(st.sampled_from('AZaz'))}{number:x}"] = parent
    deleted = {rev: draw(st.booleans()) for rev in parents}
    paths = []
    for rev in draw(st.lists(st.sampled_from(list(parents)), min_size=1, max_size=12)):
        path: list[str] = []
        at: str | None = rev
        while at is not None:
            path.append(at)
            at = parents[at]
        paths.append((tuple(path[: draw(st.integers(1, len(path)))]), deleted[rev]))
    return paths


def model(paths: list[Path]) -> tuple[str, set[str], dict[str, str]]:
    """What CouchDB's rules say, the slow and plain way: (winner, leaves, links)."""
    links = {child: parent for path, _ in paths for child, parent in itertools.pairwise(path)}
    inner = set(links.values())
    leaves = {path[0]: gone for path, gone in paths if path[0] not in inner}
    living = [rev for rev, gone in leaves.items() if not gone] or list(leaves)
    top = max(int(rev.split("-")[0]) for rev in living)
    winner = max((rev for rev in living if rev.startswith(f"{top}-")), key=str.encode)
    return winner, set(leaves), links


@settings(max_examples=300)
@given(histories(), st.randoms(use_true_random=False))
def test_the_same_paths_give_the_same_tree_in_any_order_and_number(
    paths: list[Path], rng: random.Random
) -> None:
    shuffled = paths + rng.choices(paths, k=3)
    rng.shuffle(shuffled)
    one, other = grown(*paths), grown(*shuffled)
    assert one == other
    assert one.encode() == other.encode()
    assert hash(one) == hash(other)


@settings(max_examples=300)
@given(histories())
def test_winner_leaves_and_links_are_those_of_the_model(paths: list[Path]) -> None:
    tree = grown(*paths)
    winner, leaves, links = model(paths)
    assert tree.winner == tree.leaves()[0] == winner
    assert set(tree.leaves()) == leaves
    assert {tree.winner, *tree.conflicts(), *tree.deleted_conflicts()} == leaves
    for path, _ in paths:
        walked = tree.ancestry(path[0])
        assert walked[: len(path)] == path
        assert all(links.get(child) == parent for child, parent in itertools.pairwise(walked))


@settings(max_examples=200)
@given(histories(), st.integers(1, 5))
def test_stemming_keeps_the_winner_and_every_leaf_of_one_delivery(paths: list[Path], limit: int) -> None:
    whole = grown(*paths)
    again = RevisionTree()
    for leaf in whole.leaves():
        again, _ = again.merge(whole.ancestry(leaf), whole.is_deleted(leaf), limit)
    assert again.leaves() == whole.leaves()
    assert all(
        again.ancestry(leaf) == whole.ancestry(leaf)[: len(again.ancestry(leaf))] for leaf in whole.leaves()
    )
    assert all(len(again.ancestry(leaf)) >= min(limit, len(whole.ancestry(leaf))) for leaf in whole.leaves())


@given(histories())
def test_a_tree_survives_its_bytes(paths: list[Path]) -> None:
    tree = grown(*paths)
    assert RevisionTree.decode(tree.encode()) == tree
    assert RevisionTree.decode(tree.encode()).winner == tree.winner


@given(st.binary(max_size=60))
def test_any_bytes_give_a_tree_or_a_corrupt_record(data: bytes) -> None:
    try:
        tree = RevisionTree.decode(data)
    except CorruptRecord:
        return
    assert tree.leaves() is not None
