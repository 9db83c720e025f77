"""The eventsourcing library's own recorder tests, run on our recorder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eventsourcing.persistence import AggregateRecorder, ApplicationRecorder, StoredEvent
from eventsourcing.tests import persistence as library

from events.log.sqlite import LogDatastore, LogRecorder


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
        return str(library.uuid4())


class _StreamsOnly(LogRecorder):
    """The library's aggregate recorders return no positions; apart from that they are ours."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        super().insert_events(stored_events, **kwargs)
        return None


class TestAggregateRecorder(_OnDisk, library.AggregateRecorderTestCase):
    recorder_class = _StreamsOnly

    def create_recorder(self) -> AggregateRecorder:
        return super().create_recorder()  # type: ignore[no-any-return]


class TestApplicationRecorder(_OnDisk, library.ApplicationRecorderTestCase[ApplicationRecorder]):
    def create_recorder(self) -> ApplicationRecorder:
        return super().create_recorder()  # type: ignore[no-any-return]

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestNonInterleavingPositions(_OnDisk, library.NonInterleavingNotificationIDsBaseCase):
    insert_num = 100

    def create_recorder(self) -> ApplicationRecorder:
        return super().create_recorder()  # type: ignore[no-any-return]
