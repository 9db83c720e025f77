"""The generated pages and the sample configuration. `python -m tests.docs` writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import typer

from node.cli.main import app
from node.reference import configuration_file, manual_page

ROOT = Path(__file__).parent.parent


def commands_page() -> str:
    """Write `docs/commands.md` from the commands themselves."""
    root = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        "Generated from the program by `make docs`. Exit codes: 0 done, 1 the operation failed or found faults,",
        "2 wrong usage, 75 try again later, 78 the configuration or the environment has to be changed,",
        "130 Ctrl-C.",
        "",
    ]
    lines += _command(root, "mailio-node")
    return "\n".join(lines).rstrip() + "\n"


def _command(command: Any, name: str) -> list[str]:
    lines: list[str] = []
    if isinstance(command, click.Group) or hasattr(command, "commands"):
        if getattr(command, "invoke_without_command", False) and name != "mailio-node":
            lines += _page(command, name)
        for inner_name, inner in sorted(command.commands.items()):
            lines += _command(inner, f"{name} {inner_name}")
        return lines
    return _page(command, name)


def _page(command: Any, name: str) -> list[str]:
    lines = [f"## {name}", "", *_paragraphs(command.help or ""), ""]
    rows = [row for row in map(_parameter, command.params) if row]
    if rows:
        lines += ["| argument | meaning |", "| --- | --- |", *rows, ""]
    return lines


def _paragraphs(text: str) -> list[str]:
    return [f"`{line}`" if line.startswith("Example: ") else line for line in text.strip().splitlines()]


def _parameter(parameter: Any) -> str:
    meaning = (getattr(parameter, "help", None) or "").replace("|", "\\|")
    if not meaning or parameter.name == "help":
        return ""
    names = parameter.opts if parameter.param_type_name == "option" else [parameter.name.upper()]
    return f"| `{', '.join(names)}` | {meaning} |"


PAGES: dict[str, Callable[[], str]] = {
    "docs/configuration.md": manual_page,
    "docs/commands.md": commands_page,
    "config/node.toml": lambda: configuration_file({}),
}


def main() -> None:
    """Write all generated pages."""
    for name, page in PAGES.items():
        (ROOT / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
