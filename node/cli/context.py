"""What every command shares: which configuration is meant, and the way to the node."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from node.settings import CONFIGURATION_VARIABLE, Effective, Settings, load

SEARCHED = (Path("node.toml"), Path("var/node.toml"), Path("/etc/mailio/node.toml"))
"""Where a configuration is looked for when none is named."""

FIRST = Path("var/node.toml")
"""Where the first start writes one."""


def find_configuration(named: Path | None) -> Path:
    """Return the configuration file to use; it need not exist yet."""
    if named is not None:
        return named
    if variable := os.environ.get(CONFIGURATION_VARIABLE):
        return Path(variable)
    return next((path for path in SEARCHED if path.is_file()), FIRST)


class Context:
    """The configuration of one command, read when it is first needed."""

    def __init__(self, file: Path) -> None:
        """Mean `file`."""
        self.file = file
        self._effective: Effective | None = None

    @property
    def effective(self) -> Effective:
        """Settings and their sources. Raises Misconfigured."""
        if self._effective is None:
            self._effective = load(self.file)
        return self._effective

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
        # Imported late: it pulls in the whole node, which `--help` and completion do not need.
        from node.admin.client import carry_out

        return carry_out(self.settings, operation, arguments, progress)


def context_of(context: typer.Context) -> Context:
    """Return what `configure` left in typer's context."""
    found = context.obj
    assert isinstance(found, Context)
    return found
