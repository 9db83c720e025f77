"""The whole program, run inside the process of a test: as `mailio-node` is, without the second that a start costs."""

from __future__ import annotations

import asyncio
import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import structlog

from node.cli.main import main


async def call(file: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command on this configuration; return exit code, output, errors."""
    return await asyncio.to_thread(_call, ["mailio-node", "--config", str(file), *arguments])


def _call(argv: list[str]) -> tuple[int, str, str]:
    out, err, code = io.StringIO(), io.StringIO(), 0
    messages = structlog.get_config()
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "argv", argv):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            structlog.configure(**messages)
    return code, out.getvalue(), err.getvalue()
