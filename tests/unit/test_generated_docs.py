"""The generated pages say what the program says, and every setting has a description."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from node.reference import DEVELOPMENT, configuration_file, sections
from node.settings import Settings, environment_name, leaves, load
from tests.docs import PAGES, ROOT


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


def test_every_setting_has_a_description() -> None:
    silent = [f"{s.name}.{name}" for s in sections() for name, _, text in s.members if not text]
    assert silent == []


def test_the_development_configuration_is_valid_and_sets_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(configuration_file(DEVELOPMENT))
    effective = load(file, {})
    assert {name for name, source in effective.sources.items() if source == str(file)} == set(DEVELOPMENT)
    assert effective.settings.node.data == tmp_path


def test_a_fully_commented_configuration_is_the_default(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(configuration_file({}))
    read, default = load(file, {}).settings, load(None, {}).settings
    # A relative data folder starts where the file is, or in the working directory when there is none.
    node = msgspec.structs.replace(read.node, data=default.node.data)
    assert msgspec.structs.replace(read, node=node) == default


def test_no_two_settings_share_an_environment_variable() -> None:
    names = [environment_name(name) for name, _ in leaves(Settings)]
    assert len(names) == len(set(names))
