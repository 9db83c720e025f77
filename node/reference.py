"""The configuration reference, made from the settings themselves: a commented file and a manual page.

Descriptions are the string literals below each member, read from the source of its class.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from node.settings import Settings, environment_name

Defaults = Mapping[str, Any]


def descriptions(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Return the text below each member of a struct, on one line each."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(struct)))
    (definition,) = tree.body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    name = ""
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found[name] = " ".join(str(node.value.value).split())
            name = ""
    return found


class Section(msgspec.Struct, frozen=True):
    """A table of the configuration file."""

    name: str
    title: str
    members: tuple[tuple[str, Any, str], ...]


def sections(struct: type[msgspec.Struct] = Settings, name: str = "") -> Iterator[Section]:
    """All tables with their members as (name, default, description)."""
    texts = descriptions(struct)
    members, inner = [], []
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            inner.append((f"{name}.{field.name}".lstrip("."), field.type))
        else:
            members.append((field.name, default_of(field), texts.get(field.name, "")))
    if members:
        title = inspect.getdoc(struct) or ""
        yield Section(name, title.splitlines()[0], tuple(members))
    for inner_name, inner_struct in inner:
        yield from sections(inner_struct, inner_name)


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """Return a member's default."""
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def toml_value(value: Any) -> str:
    """Write a value as TOML; None has no form and becomes an empty text."""
    match value:
        case bool():
            return str(value).lower()
        case int():
            return f"{value:_}" if abs(value) >= 100_000 else str(value)
        case float():
            return str(value)
        case tuple() | list():
            return "[" + ", ".join(toml_value(item) for item in value) + "]"
        case _:
            text = "" if value is None else str(value)
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def configuration_file(set_values: Mapping[str, Any]) -> str:
    """Write a commented configuration: `set_values` (by dotted name) as they are, the rest as comments."""
    lines = ["# Configuration of a Mailio node. Lines that begin with # show the defaults.", ""]
    for section in sections():
        lines += [f"# {section.title}", f"[{section.name}]"]
        for name, default, text in section.members:
            lines += [f"# {line}" for line in textwrap.wrap(text, 98)]
            dotted = f"{section.name}.{name}"
            if dotted in set_values:
                lines.append(f"{name} = {toml_value(set_values[dotted])}")
            else:
                lines.append(f"# {name} = {toml_value(default)}")
        lines.append("")
    return "\n".join(lines)


def manual_page() -> str:
    """Write `docs/configuration.md`."""
    lines = [
        "# Configuration",
        "",
        "Generated from the settings by `make docs`. A value comes from, in this order: the environment,",
        "the configuration file, the default. `mailio-node config` shows what is in force and why.",
        "",
    ]
    for section in sections():
        lines += [f"## [{section.name}]", "", section.title, ""]
        lines += ["| setting | default | meaning | environment |", "| --- | --- | --- | --- |"]
        for name, default, text in section.members:
            variable = environment_name(f"{section.name}.{name}")
            cell = text.replace("|", "\\|")
            lines.append(f"| `{name}` | `{toml_value(default)}` | {cell} | `{variable}` |")
        lines.append("")
    return "\n".join(lines)


DEVELOPMENT: Mapping[str, Any] = {
    "node.server_domain": "localhost",
    "node.email_domains": ("alpha.example",),
    "node.web_domain": "localhost",
    "node.data": Path(),
    "smtp.listen": "127.0.0.1:2525",
    "http.listen": "127.0.0.1:8025",
    "http.origins": ("http://localhost:8080",),
}
"""What the configuration of a first start sets: a node for one machine, reachable from that machine."""
