"""Points of a backup: what is copied, what is kept, and what checking one finds."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from events.errors import CorruptRecord, NotFound
from node.backup.folder import BackupFolder, point_name
from node.backup.manifest import StoredFile, signed
from node.backup.restoring import restore
from node.crypto.keys import UserKeys, load_server_keys
from node.storage.local import LocalBlobs, LocalSettings
from node.storage.segments import header
from tests.integration.backup.harness import OWNER, Place, mail, nobody_watches

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def is_sound(place: Place) -> bool:
    """Whether every point holds."""
    return all(place.check(name).problems == [] for name in place.backup.points())


def test_a_second_run_copies_only_what_is_new(place: Place) -> None:
    place.receive(*(mail(f"mail {number}", 100_000) for number in range(10)))
    first = place.make()
    place.receive(mail("one more"))
    second = place.make()
    again = sum((place.data / name).stat().st_size for name in ("log.sqlite", "keys/vault.sqlite"))
    assert first.copied > (place.data / "blobs" / "000001.seg").stat().st_size
    assert second.copied < again + 20_000
    assert second.points == [first.point, second.point]
    assert is_sound(place)


def test_finished_segments_are_copied_once_and_not_looked_at_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = LocalSettings(segment_bytes=50_000)
    opened = LocalBlobs.open
    monkeypatch.setattr("node.core.LocalBlobs.open", lambda folder: opened(folder, small))
    place.receive(*(mail(f"mail {number}", 30_000) for number in range(8)))
    place.make()
    stored = sorted(place.backup.blobs.iterdir())
    assert len(stored) > 3
    # Finished segments that can't be read any more are still in the backup.
    for segment in stored[:-1]:
        os.truncate(place.data / "blobs" / segment.name, 0)
    assert place.make().copied < sum(path.stat().st_size for path in stored)
    assert is_sound(place)


def test_older_points_go_and_those_kept_stay_sound(place: Place) -> None:
    names = []
    for number in range(3):
        place.receive(mail(f"mail {number}"))
        names.append(place.make(keep=2).point)
    assert place.backup.points() == names[1:]
    assert is_sound(place)


def test_points_ascend_although_the_clock_was_set_back(place: Place) -> None:
    place.receive(mail("one"))
    first = place.make().point
    later = place.backup.point("20990101T000000.000Z")
    assert first < later.name
    place.backup.point(first).rename(later)
    assert place.make().point == "20990101T000000.001Z"
    assert point_name(4_070_908_800_000) == later.name


def test_a_batch_that_was_taken_back_in_a_segment_spoils_neither_point(place: Place) -> None:
    place.receive(mail("one"), mail("two"))
    segment = place.data / "blobs" / "000001.seg"
    sound = segment.read_bytes()
    # Whole records whose sync failed: in the file when it was copied, taken back afterwards.
    with segment.open("ab") as file:
        file.write(header(b"\1" * 32, 10) + b"0123456789")
    first = place.make()
    segment.write_bytes(sound)
    shutil.rmtree(place.data / "views")
    place.receive(mail("three"))
    second = place.make()
    assert place.backup.points() == [first.point, second.point]
    assert is_sound(place)
    assert len(list(place.backup.blobs.iterdir())) == 2
    place.make(keep=1)
    assert len(list(place.backup.blobs.iterdir())) == 1
    assert is_sound(place)


def test_a_node_that_went_back_to_an_earlier_point_spoils_no_point(place: Place) -> None:
    place.receive(mail("one"))
    earlier = place.make().point
    place.receive(mail("lost", 40_000))
    place.make()
    place.lose_data()
    place.restore(point=earlier)
    place.receive(mail("different", 70_000))
    place.make()
    assert len(place.backup.points()) == 3
    assert is_sound(place)


@pytest.mark.parametrize("file", ["log.sqlite", "000001.seg", "server.json", "manifest.json"])
def test_a_backup_that_is_killed_leaves_earlier_points_as_they_were(place: Place, file: str) -> None:
    place.receive(mail("kept"))
    first = place.make().point
    place.receive(mail("not backed up yet"))
    kill_at(place, file)
    assert place.backup.points() == [first]
    assert is_sound(place)
    second = place.make().point
    assert [each.name for each in sorted(place.backup.points_folder.iterdir())] == [first, second]
    assert is_sound(place)


def kill_at(place: Place, file: str) -> None:
    """Run a backup that is killed when it opens a file of that name in the backup for writing."""
    program = f"""
import os, signal, sys
def watch(event, arguments):
    name = str(arguments[0]) if event == "open" else ""
    if "/backup/" in name and name.endswith({file!r}) and arguments[2] & (os.O_RDWR | os.O_WRONLY):
        os.kill(os.getpid(), signal.SIGKILL)
from pathlib import Path
from tests.integration.backup.harness import Place
place = Place(Path({str(place.folder)!r}))
sys.addaudithook(watch)
place.make()
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT, timeout=60)
    assert done.returncode == -signal.SIGKILL


# What checking finds


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A node with one mail and one point."""
    place = Place(tmp_path_factory.mktemp("sample"))
    place.receive(mail("kept"))
    place.make()
    return place


def copy_of(sample: Place, folder: Path) -> BackupFolder:
    shutil.copytree(sample.backup.path, folder / "backup")
    return BackupFolder(folder / "backup")


def path_of(backup: BackupFolder, name: str) -> Path:
    """Where a file of the newest point lies."""
    point = backup.chosen(None)
    if name.startswith("manifest"):
        return backup.point(point) / name
    files: dict[str, StoredFile] = {file.name: file for file in backup.manifest(point).files}
    return (backup.path if files[name].shared else backup.point(point)) / files[name].stored


def flip(path: Path, offset: int) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 3)


FILES = ("log.sqlite", "blobs/000001.seg", "keys/server.json", "node.toml", "manifest.json", "manifest.sig")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["flipped", "missing", "short"])
def test_what_was_tampered_with_is_named_and_not_restored(
    sample: Place, tmp_path: Path, name: str, how: str
) -> None:
    backup = copy_of(sample, tmp_path)
    path = path_of(backup, name)
    match how:
        case "flipped":
            flip(path, path.stat().st_size // 2)
        case "missing":
            path.unlink()
        case _:
            shorten(path)
    place = Place(tmp_path)
    problems = place.check().problems
    assert ("manifest" if name.startswith("manifest") else name) in problems[0]
    with pytest.raises(NotFound, match="not sound"):
        restore(backup.path, tmp_path / "new", None, nobody_watches)
    assert not (tmp_path / "new").exists()


def test_a_manifest_that_another_key_has_signed_is_found(sample: Place, tmp_path: Path) -> None:
    backup = copy_of(sample, tmp_path)
    point = backup.chosen(None)
    content, signature = signed(backup.manifest(point), UserKeys.generate())
    (backup.point(point) / "manifest.json").write_bytes(content)
    (backup.point(point) / "manifest.sig").write_bytes(signature)
    assert "signature" in Place(tmp_path).check().problems[0]


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "keys/../../x", "blobs/a/b", "views/userdb.sqlite"]
)
def test_a_signed_manifest_leads_nowhere_else(sample: Place, tmp_path: Path, name: str) -> None:
    backup = copy_of(sample, tmp_path)
    point = backup.chosen(None)
    manifest = backup.manifest(point)
    evil = msgspec.structs.replace(manifest.files[0], name=name)
    keys = load_server_keys(sample.data / "keys" / "server.json")
    content, signature = signed(msgspec.structs.replace(manifest, files=(evil, *manifest.files)), keys)
    (backup.point(point) / "manifest.json").write_bytes(content)
    (backup.point(point) / "manifest.sig").write_bytes(signature)
    assert "no backup has" in Place(tmp_path).check().problems[0]


def test_a_blob_that_was_bad_already_is_named_with_the_event_that_needs_it(place: Place) -> None:
    place.receive(mail("damaged"))
    path = place.data / "blobs" / "000001.seg"
    # The first record is the mail: behind its header of 48 bytes lies what was stored.
    flip(path, 48 + 60)
    place.make()
    (problem,) = place.check().problems
    assert "missing or damaged; MailAccepted needs it (position 3, stream mail-" in problem


def test_of_a_damaged_log_no_point_is_made(place: Place) -> None:
    place.receive(mail("one"))
    first = place.make().point
    with sqlite3.connect(place.data / "log.sqlite") as database:
        database.execute("DROP TRIGGER events_are_never_changed")
        database.execute("UPDATE events SET topic = 'AccountEnabled' WHERE position = 1")
    database.close()
    with pytest.raises(CorruptRecord, match="damaged"):
        place.make()
    assert place.backup.points() == [first]
    assert is_sound(place)


def test_keys_kept_in_sqlite_are_copied_as_of_one_moment(place: Place) -> None:
    place.receive(mail("one"))
    vault = sqlite3.connect(place.data / "keys" / "other.sqlite", isolation_level=None)
    vault.execute("PRAGMA journal_mode = WAL")
    vault.execute("CREATE TABLE key (id TEXT, secret BLOB)")
    vault.execute("INSERT INTO key VALUES ('someone', x'00ff')")
    vault.execute("BEGIN IMMEDIATE")
    vault.execute("INSERT INTO key VALUES ('unfinished', x'01')")
    place.make()
    vault.execute("ROLLBACK")
    vault.close()
    assert is_sound(place)
    place.restore(place.folder / "new")
    copy = sqlite3.connect(place.folder / "new" / "keys" / "other.sqlite")
    assert copy.execute("SELECT * FROM key").fetchall() == [("someone", b"\x00\xff")]
    copy.close()


def test_an_erased_account_is_not_in_the_next_point_and_spoils_none(place: Place) -> None:
    place.receive(mail("of somebody"))
    first = place.make()

    async def erase() -> str:
        async with place.running() as core:
            address = await core.erasure.address_of(OWNER)
            await core.erasure.erase(address, "test", "operator")
            return address

    address = asyncio.run(erase())
    second = place.make()
    assert is_sound(place)
    secret = {
        name: sqlite3.connect(place.backup.point(name) / "keys" / "vault.sqlite")
        .execute("SELECT secret FROM key WHERE owner = ?", (address,))
        .fetchone()[0]
        for name in (first.point, second.point)
    }
    assert secret[second.point] == bytes(32) != secret[first.point]
    place.lose_data()
    place.restore()

    async def known() -> bool:
        async with place.running() as core:
            return await core.directory.by_address(address) is not None

    assert not asyncio.run(known())
