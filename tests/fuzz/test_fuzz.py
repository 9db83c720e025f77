"""Every fuzz target holds on its seeds, on what is near them, and on anything else; and the engine runs it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import runs

NAMES = runs.names()


def near(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Seeds with a stretch replaced, doubled or left out."""

    def bend(seed: bytes, start: int, length: int, put: bytes) -> bytes:
        start %= len(seed) + 1
        return seed[:start] + put + seed[start + length :]

    return st.builds(
        bend, st.sampled_from(seeds), st.integers(0, 500), st.integers(0, 8), st.binary(max_size=6)
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_target_says_what_it_holds_to(name: str) -> None:
    target = runs.target(name)
    assert target.__doc__.startswith("Invariant: ")
    for seed in target.SEEDS:
        target.one(seed)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_target_holds_on_whatever_comes(name: str, data: st.DataObject) -> None:
    target = runs.target(name)
    target.one(data.draw(st.one_of(near(target.SEEDS), st.binary(max_size=120))))


@pytest.mark.skipif(find_spec("atheris") is None, reason="the fuzzing engine has no build for this Python")
def test_the_engine_runs_a_target_and_keeps_what_reached_new_code(tmp_path: Path) -> None:
    ended = runs.run("smtp_grammar", tmp_path, "-runs=2000", "-seed=1")
    assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "smtp_grammar").iterdir())) > len(runs.target("smtp_grammar").SEEDS)
