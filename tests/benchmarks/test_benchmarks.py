"""Every benchmark still runs, at a size that measures nothing."""

from __future__ import annotations

import importlib
import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import history, results, tables
from benchmarks.__main__ import MEASURES
from benchmarks.results import Size


@pytest.fixture(scope="module", autouse=True)
def _private_history(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Histories that other runs keep stay as they are."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("histories")
        patch.setattr(history, "folder", lambda: folder)
        yield


TAKEN: dict[str, Any] = {}


@pytest.mark.parametrize("name", MEASURES)
def test_it_measures_and_prints(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    figures = module.measure(Size.TINY)
    printed = io.StringIO()
    with redirect_stdout(printed):
        module.show(figures)
    assert printed.getvalue()
    figures = msgspec.json.decode(msgspec.json.encode(figures))
    TAKEN[name] = {"measured": "today", "machine": "this", "load": [0.0, 0.0], "figures": figures}


def test_the_page_has_a_place_for_every_measure_and_is_filled_with_what_they_printed() -> None:
    page = tables.filled(tables.PAGE.read_text(), TAKEN)
    for name in MEASURES:
        assert f"<!-- {name} -->" in page
    if set(TAKEN) == set(MEASURES):
        assert "Not measured yet." not in page
        assert "rebuild of 2,000 events" in page


def test_figures_are_recorded_beside_those_of_other_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "FILE", tmp_path / "results.json")
    results.record("one", {"rate": 1234.5678}, (0.1, 0.2), 3.4)
    results.record("other", [1, 2], (0.0, 0.0), 1)
    known = results.recorded()
    assert known["one"]["figures"] == {"rate": 1235.0}
    assert known["other"]["figures"] == [1, 2]
    assert known["one"]["load"] == [0.1, 0.2]
