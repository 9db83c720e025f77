"""The doctor: looks at everything a node needs, and says what to do about what it finds.

Each check is a function that yields findings; none changes anything, and a running daemon is not
disturbed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec
from cryptography import x509

from events.errors import MailioError
from events.log.clock import SystemClock
from events.log.sqlite_log import bound_vault
from node.admin.address import socket_path
from node.crypto.keys import Stage, load_server_keys
from node.crypto.vault import Vault, vault_path
from node.discovery.publishing import State as DnsState
from node.discovery.publishing import survey_once
from node.settings import Effective, Settings, host_and_port, load
from node.soundness import Soundness, examine_stores
from node.storage.index import INDEX_FILE
from node.stores import reading
from node.verification import Show, nobody, verified
from node.views import store_path
from projections.stores.embedded import EmbeddedStore

State = Literal["fine", "note", "wrong"]

LOW_DISK_BYTES = 1_073_741_824
"""Below this much free space the doctor warns: a day of mail of a small node."""

CERTIFICATE_DAYS = 14
"""A certificate that ends within this time should have been renewed."""

DNS_SECONDS = 2.0
"""How long the doctor waits for each DNS answer; the lookups run side by side."""

CLOCK_SLACK_MS = 60_000
"""The log may be this much ahead of the clock: a clock that was stepped back a little."""

EARLIEST_MS = 1_750_000_000_000
"""June 2025: no clock that is right shows an earlier time."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at: how it is, and what to do."""

    check: str
    state: State
    text: str
    advice: str = ""


def shown_settings(effective: Effective) -> list[tuple[str, str, str]]:
    """Return (name, value, source) of every setting; passwords are hidden."""
    rows = []
    for name, source in effective.sources.items():
        value: Any = effective.settings
        for part in name.split("."):
            value = getattr(value, part)
        rows.append((name, _shown(name, value), source))
    return rows


def _shown(name: str, value: Any) -> str:
    if name.endswith("_password") and value:
        return "(hidden)"
    if name == "couchdb.url" and "@" in str(value):
        parts = urlsplit(value)
        return str(urlunsplit(parts._replace(netloc=f"…@{parts.netloc.rpartition('@')[2]}")))
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value) or "(none)"
    return "(none)" if value is None or value == "" else str(value)


def examine(file: Path) -> list[Finding]:
    """Look at everything; a broken configuration ends the visit."""
    try:
        settings = load(file).settings
    except MailioError as error:
        return [Finding("configuration", "wrong", str(error), "correct it, then run the doctor again")]
    findings = [Finding("configuration", "fine", str(file))]
    for check in _CHECKS:
        try:
            findings += check(settings)
        except MailioError as error:
            findings.append(Finding(check.__name__.strip("_"), "wrong", str(error)))
    return findings


def _data_folder(settings: Settings) -> Iterator[Finding]:
    data = settings.node.data
    if not data.is_dir():
        yield Finding("data", "note", f"{data} does not exist yet", "the first `mailio-node run` makes it")
        return
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        advice = f"give it to the user that runs the node: chown -R mailio {data}"
        yield Finding("data", "wrong", f"{data} can't be read and written by this user", advice)
        return
    free = shutil.disk_usage(data).free
    text = f"{data}, {free / 1e9:.1f} GB free"
    if free < LOW_DISK_BYTES:
        yield Finding("data", "wrong", text, "make room: with a full disk the node answers 451 to every mail")
    else:
        yield Finding("data", "fine", text)


def _log(settings: Settings) -> Iterator[Finding]:
    path = settings.node.data / "log.sqlite"
    if not path.exists():
        return
    head, last = asyncio.run(_end_of_log(settings.node.data))
    yield Finding("log", "fine", f"{head} events; the newest are chained as they should be")
    now = SystemClock().now()
    if last > now + CLOCK_SLACK_MS:
        ahead = f"the newest event is {(last - now) // 1000} s ahead of the clock"
        yield Finding(
            "clock", "wrong", ahead, "set the clock (systemd-timesyncd or chrony) before mail comes in"
        )


async def _end_of_log(data: Path) -> tuple[int, int]:
    async with reading(data, "doctor") as stores:
        head = stores.log.head
        newest = await stores.log.read(head - 1, 1) if head else []
        return head, newest[0].metadata.at if newest else 0


def _clock(settings: Settings) -> Iterator[Finding]:
    now = time.time_ns() // 1_000_000
    text = datetime.fromtimestamp(now / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if now < EARLIEST_MS:
        yield Finding("clock", "wrong", text, "set the clock: signatures and tokens depend on it")
    else:
        yield Finding("clock", "fine", text)


def _keys(settings: Settings) -> Iterator[Finding]:
    path = settings.node.data / "keys" / "server.json"
    if not path.exists():
        if (settings.node.data / "log.sqlite").exists():
            advice = "restore it from a backup: without it the node is somebody else to its peers"
            yield Finding("keys", "wrong", f"{path} is missing, but there is a log", advice)
        return
    keys = load_server_keys(path)
    yield Finding("keys", "fine", f"this node is did:mailio:{keys.address}")
    if keys.stage is not Stage.STEADY:
        advice = "`mailio-node keys list` says what comes next: see docs/keys.md"
        yield Finding("keys", "note", f"a change of keys is under way: {keys.stage}", advice)


def _vault(settings: Settings) -> Iterator[Finding]:
    data = settings.node.data
    vault = Vault.open_read_only(vault_path(data), bound_vault(data / "log.sqlite"))
    if vault is None:
        return
    try:
        unfinished = vault.unfinished()
    finally:
        vault.close()
    if unfinished:
        text = f"{len(unfinished)} erasures are not finished"
        yield Finding("vault", "wrong", text, "start the node: it goes on with them, and says what fails")
    else:
        yield Finding("vault", "fine", "it is the one that the log is sealed with")


def _ports(settings: Settings) -> Iterator[Finding]:
    running = _daemon_answers(settings)
    for name, listen in (("smtp.listen", settings.smtp.listen), ("http.listen", settings.http.listen)):
        host, port = host_and_port(name, listen)
        if running:
            yield Finding(name, "fine", f"{listen}, a daemon is running")
        else:
            yield _free_port(name, host, port)


def _free_port(name: str, host: str, port: int) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            advice = f"stop what uses it (ss -ltnp | grep :{port}), or set {name} to another address"
            return Finding(name, "wrong", f"{host}:{port} can't be had: {error.strerror}", advice)
    return Finding(name, "fine", f"{host}:{port} is free")


def _daemon_answers(settings: Settings) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(socket_path(settings.node.data)))
        except OSError:
            return False
    return True


def _certificate(settings: Settings) -> Iterator[Finding]:
    path = settings.smtp.certificate
    if path is None:
        advice = "set smtp.certificate and smtp.private_key, so that mail comes in encrypted"
        yield Finding("tls", "note", "STARTTLS is not offered", advice)
        return
    try:
        certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError) as error:
        yield Finding("tls", "wrong", f"{path}: {error}", "name a PEM file with the certificate chain")
        return
    left = (certificate.not_valid_after_utc - datetime.now(UTC)).days
    text = f"{path} is valid for {left} more days"
    yield (
        Finding("tls", "fine", text) if left > CERTIFICATE_DAYS else Finding("tls", "wrong", text, "renew it")
    )


def _views(settings: Settings) -> Iterator[Finding]:
    for path in sorted((settings.node.data / "views").glob("*.sqlite")):
        if path == store_path(path.parent, path.stem):
            yield asyncio.run(_view(path))


async def _view(path: Path) -> Finding:
    name = f"view {path.stem}"
    try:
        store = EmbeddedStore.open(path, readonly=True)
    except MailioError as error:
        return Finding(name, "wrong", str(error), f"run `mailio-node rebuild {path.stem}`")
    try:
        parked = len(await store.parked())
        position = await store.checkpoint()
    finally:
        await store.close()
    if parked:
        return Finding(name, "wrong", f"{parked} events are parked", "see `mailio-node parked list`")
    return Finding(name, "fine", f"at position {position}")


def _names(settings: Settings) -> Iterator[Finding]:
    if settings.node.server_domain == "localhost":
        advice = "set node.server_domain and node.email_domains before other servers are to find this node"
        yield Finding("names", "note", "this is a development node", advice)
    if not settings.node.email_domains:
        yield Finding(
            "names", "wrong", "node.email_domains is empty", "name the domains of your users' emails"
        )


def _dns(settings: Settings) -> Iterator[Finding]:
    """Compare what the node's domains publish; a development node has none to publish."""
    if settings.node.server_domain == "localhost" or not (settings.node.data / "keys/server.json").exists():
        return
    differences = asyncio.run(survey_once(settings, DNS_SECONDS))
    unknown = sum(one.state is DnsState.UNKNOWN for one in differences)
    wrong = [one.wanted.name for one in differences if one.wrong and one.state is not DnsState.UNKNOWN]
    advice = "`mailio-node dns` shows what to publish, and what is there now"
    if wrong:
        text = f"{len(wrong)} of {len(differences)} record sets are not as they should be, first {wrong[0]}"
        yield Finding("dns", "wrong", text, advice)
    elif unknown:
        yield Finding("dns", "note", f"no answer for {unknown} of {len(differences)} record sets", advice)
    else:
        yield Finding("dns", "fine", f"{len(differences)} record sets are as they should be")


_CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _names,
    _data_folder,
    _keys,
    _vault,
    _clock,
    _log,
    _views,
    _ports,
    _certificate,
    _dns,
)


def verify_stores(settings: Settings, kept: Sequence[Path] = (), show: Show = nobody) -> dict[str, Any]:
    """Check every record's hash, every signed checkpoint, every blob, and that none is missing.

    `kept` are files with checkpoints: the log is compared with the history that they stand for. The report
    names each fault with position and stream, or blob, up to a number of them.
    """
    report = verified(settings, kept, show)
    told = asyncio.run(examine_stores(settings.node.data, report["events"]))
    blob = next((fault for fault in told.faults if fault.blob), None)
    return report | {
        "log": report["log"] if report["firstBad"] is not None else _log_verdict(told),
        "blobs": told.blobs,
        "erasedBlobs": told.erased,
        "blobState": f"{blob.blob}: {blob.problem}" if blob else _blob_verdict(told),
        "damaged": report["logDamaged"] or bool(told.faults),
        "faults": msgspec.to_builtins(told.faults),
    }


def _log_verdict(told: Soundness) -> str:
    if told.bad is not None:
        return f"the first bad record is at position {told.bad}"
    fault = next((fault for fault in told.faults if not fault.blob), None)
    return fault.problem if fault else "every hash is right"


def _blob_verdict(told: Soundness) -> str:
    if not told.indexed:
        return f"{INDEX_FILE} can't be read: the next start of the node makes it again"
    if told.remains:
        return f"every hash that counts is right; {told.remains} broken ones are of interrupted writes"
    return "every hash is right"
