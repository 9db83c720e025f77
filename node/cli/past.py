"""Past states, differences and stories on a terminal; text from strangers is made harmless."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from node.cli.output import json_text, moment, printable
from node.inspection.differences import Changed, Deed, Difference, Touched
from node.inspection.states import flattened
from node.inspection.stories import Branch, Step, Story

TIMES = frozenset(("opened", "created", "profileChanged"))
"""Members that are times in milliseconds."""

NAME_WIDTH = 90
"""Column of the values, unless all names are shorter."""


def print_state(whose: str, place: dict[str, Any], told: dict[str, Any]) -> None:
    """Print a state, part by part."""
    _print(f"{whose} at position {place['position']}, {_written(place['time'])}")
    for part, members in told.items():
        _print("")
        _print(part)
        _print_values(members)


def _written(time: int | None) -> str:
    return "before the first record" if time is None else f"written {moment(time)} UTC"


def _print_values(members: dict[str, Any]) -> None:
    rows = [(" / ".join(path), _value(value, path[-1])) for path, value in flattened(members)]
    width = min(max((len(name) for name, _ in rows), default=0), NAME_WIDTH)
    for name, value in rows:
        _print(f"  {name:<{width}}  {value}")
    if not rows:
        _print("  (nothing)")


def _value(value: Any, name: str = "") -> str:
    if name in TIMES and value:
        return f"{moment(value)} UTC"
    return value if isinstance(value, str) and value else json_text(value)


def _print(text: str) -> None:
    """Print a line, control characters made visible."""
    sys.stdout.write(printable(text) + "\n")


def _print_heading(text: str) -> None:
    _print("")
    _print(text)


def print_difference(title: str, found: Difference) -> None:
    """Print what changed: values, documents with what happened to each, everything else."""
    _print(title)
    if not (found.changes or found.documents or found.others):
        _print("nothing changed")
    if found.changes:
        _print_heading("state")
    for change in found.changes:
        by = f"  (position {change.by})" if change.by else ""
        _print(f"  {' / '.join(change.path)}: {_change(change)}{by}")
    if found.documents:
        _print_heading("documents and folders")
    for touched in found.documents:
        _print(f"  {touched.id}: {_known(touched)}")
        _print_deeds(touched.deeds)
    if found.others:
        _print_heading("other events")
        _print_deeds(found.others)


def _change(change: Changed) -> str:
    name = change.path[-1]
    before, after = (
        "(none)" if value is None else _value(value, name) for value in (change.before, change.after)
    )
    return f"{before} -> {after}"


def _known(touched: Touched) -> str:
    before, after = (
        " ".join(f"{name}={_value(value)}" for name, value in known.items()) if known else "(none)"
        for known in (touched.before, touched.after)
    )
    return f"{before} -> {after}"


def _print_deeds(deeds: Iterable[Deed]) -> None:
    for deed in deeds:
        _print(f"    {deed.position:>8}  {moment(deed.at)}  {deed.type}  {deed.actor}: {deed.text}")


def print_story(story: Story, *, separated: bool = False) -> None:
    """Print a story, a step a line."""
    if separated:
        _print("")
    title = f"mail {story.mail}" if story.mail else "a document that a device wrote"
    _print(title + (f", Message-ID {story.message_id}" if story.message_id else ""))
    for step in story.steps:
        _print_step(step)
    for branch in story.branches:
        _print_branch(branch)


def _print_branch(branch: Branch) -> None:
    email = f" ({branch.email})" if branch.email else ""
    document = f", document {branch.document}" if branch.document else ""
    _print(f"mailbox {branch.mailbox}{email}{document}")
    for step in branch.steps:
        _print_step(step)


def _print_step(step: Step) -> None:
    when = "now" if step.at is None else moment(step.at)
    position = "" if step.position is None else str(step.position)
    actor = f"  [{step.actor}]" if step.actor else ""
    _print(f"  {when:<19}  {position:>8}  {step.what:<8}  {step.text}{actor}")
