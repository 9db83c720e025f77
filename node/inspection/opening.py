"""The log of a configuration, opened for looking, whether a node runs or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from events.log.codec import Codec
from events.log.reading import LogReader
from events.types import known_types


@contextmanager
def opened(data: Path) -> Iterator[tuple[LogReader, Codec]]:
    """Open the log below a data folder, and what decodes its records. Raises Misconfigured."""
    with LogReader.open(data / "log.sqlite") as reader:
        yield reader, Codec(known_types())
