"""What the parts of a node say, while something else is looked at."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


@contextmanager
def messages_from(level: int) -> Iterator[None]:
    """Let nodes in this process, and asyncio, say only what is of this level; afterwards as before."""
    before, logger = structlog.get_config(), logging.getLogger("asyncio")
    known = logger.level
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    logger.setLevel(level)
    try:
        yield
    finally:
        structlog.configure(**before)
        logger.setLevel(known)
