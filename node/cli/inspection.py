"""Commands that look: config, doctor, verify, mailbox."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.backups import verify_backup
from node.cli.context import context_of
from node.cli.output import Json, console, moment, print_json, print_table, printable, progress


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(config)
    app.command()(doctor)
    app.command()(verify)
    app.command()(mailbox)


def config(context: typer.Context, as_json: Json = False) -> None:
    """Print the settings in force, and where each comes from.

    Example: mailio-node config --json
    """
    from node.doctor import shown_settings

    rows = shown_settings(context_of(context).effective)
    if as_json:
        print_json([{"setting": name, "value": value, "source": source} for name, value, source in rows])
        return
    print_table(("setting", "value", "source"), rows, "")


def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Check configuration, ports, stores, keys and clock; say what to do about each finding.

    Exits 1 when something is wrong.

    Example: mailio-node doctor
    """
    from node.doctor import examine

    ours = context_of(context)
    findings = examine(ours.file)
    if as_json:
        print_json(
            [{"check": f.check, "state": f.state, "text": f.text, "advice": f.advice} for f in findings]
        )
    else:
        for finding in findings:
            console.print(f"{finding.state:<8}{finding.check}: {finding.text}", markup=False, soft_wrap=True)
            if finding.advice:
                console.print(f"        {finding.advice}", markup=False, soft_wrap=True)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def verify(
    context: typer.Context,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="A checkpoint kept elsewhere: the log must contain the history up to it."),
    ] = None,
    backup: Annotated[
        Path | None, typer.Option(help="Check this backup instead.", show_default=False)
    ] = None,
    point: Annotated[
        str | None, typer.Option(help="Point of the backup; else the newest.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Check the log's chain of hashes, its signed checkpoints and every blob; name the first bad position.

    With --backup: check a backup's signature, every file of it, the chain of its log, and that every blob
    that the log mentions is there. Exits 1 when something is damaged. A running daemon is not disturbed.

    Example: mailio-node verify --checkpoint checkpoint.json
    Example: mailio-node verify --backup /mnt/backup/mailio
    """
    from node.doctor import verify_stores

    ours = context_of(context)
    if backup is not None:
        verify_backup(ours, backup, point, as_json=as_json)
        return
    with progress("verifying the log") as show:
        report = verify_stores(ours.settings, checkpoint or (), show)
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    if report["damaged"]:
        raise typer.Exit(1)


def _print_report(report: dict[str, Any]) -> None:
    lines = [f"log: {report['events']} events, {report['log']}"]
    if report["checkpoints"]:
        lines.append(
            f"signed checkpoints: {report['checkpoints']}, the last of position {report['attested']}, "
            f"signed at {moment(report['attestedAt'])} UTC"
        )
    else:
        lines.append("signed checkpoints: none")
    for kept in report["kept"]:
        verdict = kept["problem"] or f"the log contains its history, up to position {kept['position']}"
        lines.append(f"{kept['file']}: {verdict}")
    erased = f" and {report['erasedBlobs']} erased" if report["erasedBlobs"] else ""
    lines.append(f"blobs: {report['blobs']} blobs{erased}, {report['blobState']}")
    for line in lines:
        console.print(printable(line), markup=False, soft_wrap=True)
    rows = [(f["position"] or "", f["stream"], f["blob"][:16], f["problem"]) for f in report["faults"]]
    if rows:
        print_table(("position", "stream", "blob", "what is wrong"), rows, "")


def mailbox(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Email or Mailio address of the account.")],
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Messages at the most.")] = 20,
    as_json: Json = False,
) -> None:
    """List the newest messages of a mailbox: folder, reason, sender and subject, never the text.

    Example: mailio-node mailbox someone@alpha.example
    """
    answer = context_of(context).carry_out("mailbox.list", {"name": name, "limit": limit})["messages"]
    if as_json:
        print_json(answer)
        return
    rows = [
        (moment(item["created"]), item["folder"], item["reason"], item["from"], item["subject"])
        for item in answer
    ]
    print_table(("filed (UTC)", "folder", "reason", "from", "subject"), rows, "no messages")
