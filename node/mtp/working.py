"""Where work is done whose time grows with a message: on small ones here, on large ones in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")

LARGE_BYTES: Final = 131_072
"""From this size on a thread is worth its price: 128 KiB take some 2 ms to be read and verified."""


async def worked(
    size: int, work: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs
) -> Result:
    """Do the work on `size` bytes without holding up everybody else for long."""
    if size < LARGE_BYTES:
        return work(*arguments, **named)
    return await asyncio.to_thread(work, *arguments, **named)
