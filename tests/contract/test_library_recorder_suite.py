"""The eventsourcing library's own recorder tests, run on our recorder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from types import ModuleType
from typing import Any
from uuid import uuid4

from eventsourcing.persistence import StoredEvent

from events.log.sqlite import LogDatastore, LogRecorder


def _library_cases() -> ModuleType:
    """Import the library's cases without its optional cipher.

    The module also holds mapper cases, for which it imports `Crypto` (pycryptodome, an extra of the library
    that the node does not use). No recorder case touches it, so its place is held while the import runs.
    """
    names = ("Crypto", "Crypto.Cipher", "Crypto.Cipher.AES", "Crypto.Cipher._mode_gcm")
    absent = {name: ModuleType(name) for name in names if find_spec("Crypto") is None}
    for module in absent.values():
        module.__dict__.update(AES=absent["Crypto.Cipher.AES"], GcmMode=object, key_size=(16, 24, 32))
    sys.modules.update(absent)
    try:
        return import_module("eventsourcing.tests.persistence")
    finally:
        for name in absent:
            del sys.modules[name]


library: Any = _library_cases()


class _OnDisk:
    """Gives each test a log file; opening happens in `create_recorder`, as the library's cases ask for it."""

    recorder_class: type[LogRecorder] = LogRecorder

    def setUp(self) -> None:
        self._folder = TemporaryDirectory()
        self._datastore = LogDatastore(str(Path(self._folder.name) / "log.db"), pool_size=20)

    def tearDown(self) -> None:
        self._datastore.close()
        self._folder.cleanup()

    def create_recorder(self) -> Any:
        recorder = self.recorder_class(self._datastore)
        recorder.create_table()
        return recorder

    def new_originator_id(self) -> str:
        return str(uuid4())


class _StreamsOnly(LogRecorder):
    """The library's aggregate recorders return no positions; apart from that they are ours."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        super().insert_events(stored_events, **kwargs)
        return None


class TestAggregateRecorder(_OnDisk, library.AggregateRecorderTestCase):  # type: ignore[misc]
    recorder_class = _StreamsOnly


class TestApplicationRecorder(_OnDisk, library.ApplicationRecorderTestCase):  # type: ignore[misc]
    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestNonInterleavingPositions(_OnDisk, library.NonInterleavingNotificationIDsBaseCase):  # type: ignore[misc]
    insert_num = 100


def test_a_pool_closes_only_after_its_connections_were_given_back(tmp_path: Path) -> None:
    datastore = LogDatastore(str(tmp_path / "log.db"))
    LogRecorder(datastore).create_table()
    inside, leave, closed = Event(), Event(), Event()

    def read() -> None:
        with datastore.transaction(commit=False) as cursor:
            inside.set()
            leave.wait(5)
            cursor.execute("SELECT count(*) FROM events")
            assert not closed.is_set()

    def close() -> None:
        datastore.close()
        closed.set()

    with ThreadPoolExecutor(2) as threads:
        reading = threads.submit(read)
        inside.wait(5)
        closing = threads.submit(close)
        assert not closed.wait(0.1)
        leave.set()
        reading.result()
        closing.result()
