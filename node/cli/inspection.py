"""Commands that look: config, doctor, verify, mailbox."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli.context import context_of
from node.cli.output import Json, console, moment, print_json, print_table


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


def verify(context: typer.Context, as_json: Json = False) -> None:
    """Check the log's chain of hashes and every blob; name each fault by position and stream, or blob.

    Exits 1 when something is damaged. A running daemon is not disturbed.

    Example: mailio-node verify
    """
    from node.doctor import verify_stores

    report = verify_stores(context_of(context).settings)
    if as_json:
        print_json(report)
    else:
        console.print(f"log: {report['events']} events, {report['log']}")
        erased = f" and {report['erasedBlobs']} erased ones" if report["erasedBlobs"] else ""
        console.print(f"blobs: {report['blobs']} blobs{erased}, {report['blobState']}")
        rows = [(f["position"] or "", f["stream"], f["blob"][:16], f["problem"]) for f in report["faults"]]
        if rows:
            print_table(("position", "stream", "blob", "what is wrong"), rows, "")
    if report["damaged"]:
        raise typer.Exit(1)


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
