"""What every command shares: which configuration is meant, and the way to the node."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from node.settings import Effective, Settings

SEARCHED = (Path("node.toml"), Path("var/node.toml"), Path("/etc/mailio/node.toml"))
"""Where a configuration is looked for when none is named."""

FIRST = Path("var/node.toml")
"""Where the first start writes one."""


def find_configuration(named: Path | None) -> Path:
    """Return the configuration file to use; it need not exist yet."""
    from node.settings import CONFIGURATION_VARIABLE

    if named is not None:
        return named
    if variable := os.environ.get(CONFIGURATION_VARIABLE):
        return Path(variable)
    return next((path for path in SEARCHED if path.is_file()), FIRST)


class Context:
    """The configuration of one command, found and read when it is first needed.

    Help and completion never need it: what reads it imports half of the node.
    """

    def __init__(self, named: Path | None, prepare: Callable[[], None]) -> None:
        """Mean the file that was named, if any; `prepare` is called before anything of the node is used."""
        self._named = named
        self._prepare = prepare

    @cached_property
    def file(self) -> Path:
        """The configuration file; it need not exist yet."""
        self._prepare()
        return find_configuration(self._named)

    @cached_property
    def effective(self) -> Effective:
        """Settings and their sources. Raises Misconfigured."""
        from node.settings import load

        return load(self.file)

    @property
    def settings(self) -> Settings:
        """The settings. Raises Misconfigured."""
        return self.effective.settings

    def carry_out(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        progress: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> dict[str, Any]:
        """Carry out an operation on the node, running or not; reports on the way go to `progress`."""
        from node.admin.client import carry_out

        return carry_out(self.settings, operation, arguments, progress)


def context_of(context: typer.Context) -> Context:
    """Return what `configure` left in typer's context."""
    found = context.obj
    assert isinstance(found, Context)
    return found
