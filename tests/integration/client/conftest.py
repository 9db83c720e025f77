"""One JavaScript process for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.client.people import JavaScript


@pytest.fixture(scope="module")
def javascript() -> Iterator[JavaScript]:
    process = JavaScript()
    yield process
    process.close()
