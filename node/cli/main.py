"""`mailio-node`: the commands, the configuration they use, and how they end.

Exit codes follow sysexits.h where it has a fitting one: 0 done, 1 the operation failed or found faults,
2 wrong usage, 75 try again later, 78 the configuration or the environment has to be changed,
130 Ctrl-C.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from events.errors import MailioError, Misconfigured
from node.cli import (
    accounts,
    archives,
    backups,
    dns,
    handshakes,
    history,
    inspection,
    keys,
    logs,
    parked,
    peers,
    queue,
    running,
    views,
)
from node.cli.context import Context
from node.cli.output import complain

EXIT_FAILED = 1
EXIT_TEMPORARY = 75
EXIT_CONFIGURATION = 78

app = typer.Typer(
    name="mailio-node",
    help="Run and look after a Mailio node.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(accounts.app, name="account")
app.add_typer(dns.app, name="dns")
app.add_typer(handshakes.app, name="handshake")
app.add_typer(keys.app, name="keys")
app.add_typer(logs.app, name="log")
app.add_typer(parked.app, name="parked")
app.add_typer(peers.app, name="peers")
app.add_typer(queue.app, name="queue")
running.register(app)
inspection.register(app)
history.register(app)
views.register(app)
backups.register(app)
archives.register(accounts.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"mailio-node {version('mailio-node')}")
        raise typer.Exit


@app.callback()
def configure(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="Configuration; else $MAILIO_CONFIG, ./node.toml, ./var/node.toml, /etc/mailio/node.toml.",
            show_default=False,
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the program's version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Run and look after a Mailio node.

    Example: mailio-node account add someone@alpha.example
    """
    context.obj = Context(config, context.obj or _as_they_are)


def _as_they_are() -> None:
    """Leave the messages of the node's parts to the program inside which a command is called."""


def messages_to_stderr() -> None:
    """Send the messages of the node's parts to people: standard output may be read by a script."""
    import structlog

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


def main() -> None:
    """Run a command; every expected failure is one line on standard error and an exit code."""
    try:
        app(obj=messages_to_stderr)
    except MailioError as error:
        complain(str(error))
        sys.exit(exit_code(error))
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody to tell. Python would complain at exit.
        sys.stderr.close()
        sys.exit(EXIT_FAILED)


def exit_code(error: MailioError) -> int:
    """Return the exit code for an error."""
    if isinstance(error, Misconfigured):
        return EXIT_CONFIGURATION
    return EXIT_TEMPORARY if error.temporary else EXIT_FAILED
