"""Archives that somebody made to do harm: one clear refusal, and nothing has changed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from events.errors import CorruptRecord, MailioError
from node.archive import content
from node.archive.content import EVENTS, MANIFEST, SIGNATURE
from node.archive.reading import unpack
from node.core import Core
from node.crypto.base64_text import to_base64
from node.crypto.keys import UserKeys
from tests.integration.archive.harness import (
    OWNER,
    Members,
    bring_in,
    filled,
    members_of,
    packed,
    resigned,
    with_events,
    write_archive,
    zipped,
)
from tests.integration.backup.harness import Place

ROOM = 100_000_000

Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Members:
    """The members of a sound archive."""
    place = Place(tmp_path_factory.mktemp("sample"))

    async def fill() -> None:
        async with place.running() as core:
            await filled(core)

    asyncio.run(fill())
    write_archive(place, place.folder / "someone.tar")
    return members_of(place.folder / "someone.tar")


async def refused(folder: Path, archive: bytes) -> MailioError:
    """Let an archive be refused where it is read, or, if it passes there, by a node."""
    (folder / "spread").mkdir()
    file = folder / "archive.tar"
    file.write_bytes(archive)
    try:
        unpack(file, folder / "spread", ROOM, lambda _: None)
    except MailioError as error:
        return error
    return await refused_by_a_node(folder, archive)


async def refused_by_a_node(folder: Path, archive: bytes) -> MailioError:
    """Let a fresh node refuse an archive; nothing is there afterwards."""
    (folder / "node").mkdir()
    file = folder / "archive.tar"
    file.write_bytes(archive)
    async with Place(folder / "node").running() as core:
        with pytest.raises(MailioError) as caught:
            await bring_in(core, file)
        assert core.log.head == 0
        assert await core.directory.by_email(OWNER) is None
        assert list((core.settings.node.data / "imports").iterdir()) == []
        assert "\n" not in str(caught.value)
    return caught.value


async def test_the_sound_one_is_taken_also_when_a_stranger_signed_it(sample: Members, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(packed(resigned(sample)))
    async with Place(tmp_path).running() as core:
        assert (await bring_in(core, tmp_path / "a.tar"))["email"] == OWNER


def _info(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def _first(members: Members, prefix: str) -> str:
    return next(name for name in members if name.startswith(prefix))


FORMS: dict[str, Callable[[Members], bytes]] = {
    "nothing": lambda _: b"",
    "no tar": lambda _: b"this is no archive " * 100,
    "gzip of nothing": lambda _: zipped(b""),
    "gzip cut off": lambda m: zipped(packed(m))[:-30],
    "gzip damaged": lambda m: zipped(packed(m))[:200] + b"\0\0\0\0" + zipped(packed(m))[204:],
    "cut off": lambda m: packed(m)[:-20_000],
    "something behind": lambda m: packed(m) + b"x" * 512,
    "a symlink": lambda m: packed(m, (_info("mbox/a.mbox", tarfile.SYMTYPE, "/etc/passwd"), b"")),
    "a hard link": lambda m: packed(m, (_info("mbox/a.mbox", tarfile.LNKTYPE, MANIFEST), b"")),
    "a device": lambda m: packed(m, (_info("mbox/a.mbox", tarfile.CHRTYPE), b"")),
    "a folder": lambda m: packed(m, (_info("mbox", tarfile.DIRTYPE), b"")),
    "a path": lambda m: packed(resigned(m | {"../../outside": b"x"})),
    "an absolute path": lambda m: packed(resigned(m | {"/tmp/outside": b"x"})),
    "a name too many": lambda m: packed(m | {"mbox/more.mbox": b"x"}),
    "a name twice": lambda m: packed(m, (_info(EVENTS, tarfile.REGTYPE), b"")),
    "extended headers": lambda m: packed(m | {"mbox/é.mbox": b"x"}, form=tarfile.PAX_FORMAT),
    "long names": lambda m: packed(m | {"mbox/" + "a" * 200: b"x"}, form=tarfile.GNU_FORMAT),
    "no manifest": lambda m: packed({n: c for n, c in m.items() if n != MANIFEST}),
    "no signature": lambda m: packed({n: c for n, c in m.items() if n != SIGNATURE}),
    "no events": lambda m: packed(resigned(m) | {EVENTS: b""}),
    "an event changed": lambda m: packed(m | {EVENTS: m[EVENTS].replace(b"inbox", b"other")}),
    "a blob missing": lambda m: packed({n: c for n, c in m.items() if n != _first(m, "blobs/")}),
    "a blob changed": lambda m: packed(m | {_first(m, "blobs/"): b"x" * len(m[_first(m, "blobs/")])}),
    "a blob of another name": lambda m: packed(resigned(m | {"blobs/" + "0" * 64: b"x"})),
    "a blob nobody needs": lambda m: packed(
        resigned(m | {"blobs/2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881": b"x"})
    ),
    "a newer format": lambda m: packed(resigned(m, format=99)),
    "another kind": lambda m: packed(resigned(m, kind="else")),
    "another address": lambda m: packed(resigned(m, address=UserKeys.generate().address)),
    "a manifest of nonsense": lambda m: packed(m | {MANIFEST: b"[" * 100_000}),
    "too many events": lambda m: packed(resigned(m, events=content.MAX_EVENTS + 1)),
    "a negative size": lambda m: packed(m).replace(b"00000000", b"-0000001", 1),
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_file_that_is_not_what_an_export_writes_is_refused(
    sample: Members, tmp_path: Path, form: str
) -> None:
    assert "\n" not in str(await refused(tmp_path, FORMS[form](sample)))
    assert not (tmp_path.parent / "outside").exists()


def _at(lines: Lines, kind: str) -> dict[str, Any]:
    return next(line for line in lines if line["type"] == kind)


def _other_mailbox(lines: Lines) -> None:
    for line in lines:
        line["stream"] = line["stream"].replace("mailbox-0x", "mailbox-0xabc")


def _other_key(lines: Lines) -> None:
    _at(lines, "AccountOpened")["event"]["signing_key"] = to_base64(UserKeys.generate().public_key)


def _second_line(lines: Lines) -> None:
    lines.append(lines[-1])


def _set(kind: str, member: str, value: Any, *, inside: bool = False) -> Callable[[Lines], None]:
    def change(lines: Lines) -> None:
        line = _at(lines, kind)
        (line["event"] if inside else line)[member] = value

    return change


CHANGES: dict[str, Callable[[Lines], None]] = {
    "a stream of somebody else": _other_mailbox,
    "a stream of the node": _set("MessageFiled", "stream", "node"),
    "an event of another room": _set("MessageFiled", "type", "NodeRestored"),
    "an email claimed": _set("MessageFiled", "type", "EmailClaimed"),
    "an unknown type": _set("MessageFiled", "type", "Nothing"),
    "a key that is not the address's": _other_key,
    "an event twice": _second_line,
    "events in another order": list.reverse,
    "a gap": lambda lines: lines.remove(_at(lines, "AccountOpened")),
    "an id that is none": _set("MessageFiled", "id", "../../x"),
    "a time out of range": _set("MessageFiled", "at", 1 << 60),
    "a time that is none": _set("MessageFiled", "at", "now"),
    "an actor with an escape sequence": _set("MessageFiled", "actor", "\x1b[2Jmailbox"),
    "an actor without a name": _set("MessageFiled", "actor", ""),
    "a stream name that is none": _set("MailAccepted", "stream", "mail-../../x"),
    "a folder that is none": _set("MessageFiled", "folder", "nowhere", inside=True),
    "a blob name that is none": _set("MailAccepted", "blob", "../../x", inside=True),
    "mail of somebody else": _set(
        "MailAccepted", "recipients", [["0x" + "a" * 40, "x@alpha.example"]], inside=True
    ),
    "mail that never came in": _set("MessageFiled", "mail", "f" * 32, inside=True),
    "a document id that no database takes": _set("MessageFiled", "id", "\ud800", inside=True),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_events_that_no_log_of_this_account_can_hold_are_refused(
    sample: Members, tmp_path: Path, change: str
) -> None:
    error = await refused(tmp_path, packed(with_events(sample, CHANGES[change])))
    assert "\x1b" not in error.public


@pytest.mark.parametrize("form", ["cut off", "a path", "a blob changed", "gzip damaged"])
async def test_a_refused_archive_leaves_nothing_on_the_node(
    sample: Members, tmp_path: Path, form: str
) -> None:
    await refused_by_a_node(tmp_path, FORMS[form](sample))


async def test_events_of_endless_depth_or_length_are_refused(sample: Members, tmp_path: Path) -> None:
    lines = sample[EVENTS].splitlines(keepends=True)
    deep = lines[0].replace(b'"event":{', b'"event":{"x":' + b"[" * 200_000)
    await refused(tmp_path, packed(resigned(sample | {EVENTS: deep + b"".join(lines[1:])})))


async def test_a_bomb_is_refused_before_it_is_unpacked(
    sample: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.archive.importing.ROOM_QUOTAS", 0)
    error = await refused_by_a_node(
        tmp_path, zipped(packed(resigned(sample | {"mbox/big.mbox": bytes(50_000_000)})))
    )
    assert "too large" in error.public


async def test_a_document_that_no_view_can_show_is_refused(sample: Members, tmp_path: Path) -> None:
    filed = next(
        line for line in map(json.loads, sample[EVENTS].splitlines()) if line["type"] == "MessageFiled"
    )
    old = filed["event"]["document"]
    fresh = hashlib.sha256(b"[]").hexdigest()
    members = {name: body for name, body in sample.items() if name != f"blobs/{old}"}
    members[f"blobs/{fresh}"] = b"[]"
    members[EVENTS] = members[EVENTS].replace(old.encode(), fresh.encode())
    error = await refused(tmp_path, packed(resigned(members)))
    assert isinstance(error, CorruptRecord)
    assert "userdb" in error.public


async def test_what_an_interrupted_import_left_is_gone_at_the_next_start(tmp_path: Path) -> None:
    place = Place(tmp_path)
    leftover = place.data / "imports" / "tmpabc"
    leftover.mkdir(parents=True)
    (leftover / "events").write_text("something private")
    core = Core(place.settings)
    assert not leftover.exists()
    await core.start()
    await core.close()
