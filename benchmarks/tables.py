"""The tables in README.md, from `results.json`: `python -m benchmarks.tables`.

A table stands between two marks: that of the aims, and for each measure what it printed.
"""

from __future__ import annotations

import importlib
import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from benchmarks.accept import AIOSMTPD, DOOR, HOLDING, MAILDIR
from benchmarks.first_sync import NODE, PEER
from benchmarks.materialise import ASIDE, LIVE
from benchmarks.results import recorded

PAGE = Path(__file__).parent / "README.md"
AIMS = "aims"
_PLACE = re.compile(r"<!-- (\w+) -->.*?<!-- end -->", re.DOTALL)

Results = Mapping[str, Any]


class Line(msgspec.Struct, frozen=True):
    """One aim: what was measured, what is wanted, what was found, and whether that is enough."""

    measure: str
    aim: str
    found: str
    met: bool


def accept(figures: Any) -> Iterator[Line]:
    """Rates beside others."""
    row = next(row for row in figures if (row["sessions"], row["bytes"]) == (50, 2_048))
    rate, ratios = row["servers"]["this node"]["accepted"], row["ratios"]
    what = "durable accepts/s, 50 sessions, 2 KB"
    for name, aim in ((AIOSMTPD, 0.8), (DOOR, 0.8), (HOLDING, 4.0), (MAILDIR, 6.0)):
        other = row["servers"][name]["accepted"]
        found = f"{ratios[name]:.2f} ({rate:,.0f} to {other:,.0f})"
        yield Line(f"{what}, to {name}", f">= {aim:g} times", found, ratios[name] >= aim)


def commit_curve(figures: Any) -> Iterator[Line]:
    """Syncs shared."""
    one, many = figures[0], figures[-1]
    found = f"{one['accept_syncs']} at {one['sessions']}, {many['accept_syncs']} at {many['sessions']}"
    yield Line("syncs per accepted mail by sessions", "plot", found, met=True)


def mtp_accept(figures: Any) -> Iterator[Line]:
    """Messages of a peer."""
    for row in figures:
        what = f"verified durable messages/s of a peer, {row['sessions']} connections, {row['bytes']:,} bytes"
        wanted = (row["sessions"], row["bytes"]) == (50, 2_048)
        found = (
            f"{row['accepted']:,.0f} (p99 {row['p99']:.0f} ms, {row['cpu_ms']:.2f} ms of processor each); "
            f"verified, nothing stored: {row['bare']:,.0f}"
        )
        yield Line(what, ">= 1,500" if wanted else "", found, not wanted or row["accepted"] >= 1_500)


def visible(figures: Any) -> Iterator[Line]:
    """Delay at each rate."""
    for row in figures:
        p50, p99 = row["visible"]["p50"], row["visible"]["p99"]
        aim = "p99 < 150 ms" if row["rate"] == 100 else ""
        found = f"p50 {p50:.1f}, p99 {p99:.1f} ms ({row['reached']:.0f}/s reached)"
        yield Line(f"250 to visible in PouchDB, {row['rate']}/s", aim, found, not aim or p99 < 150)


def replay(figures: Any) -> Iterator[Line]:
    """Appends and folds."""
    single, grouped = figures["appends"][0]["rate"], figures["appends"][-1]["rate"]
    folded = figures["reading"]["read, decoded and folded"]
    yield Line("events appended/s, one at a time", "", f"{single:,.0f}", met=True)
    yield Line("events appended/s, 100 in flight", ">= 20,000", f"{grouped:,.0f}", grouped >= 20_000)
    yield Line("events read and folded/s", ">= 100,000", f"{folded:,.0f}", folded >= 100_000)


def materialise(figures: Any) -> Iterator[Line]:
    """Documents into views."""
    for name in (LIVE, ASIDE, "userdb"):
        rate = figures["documents"][name]["rate"]
        yield Line(f"documents materialised/s, {name}", ">= 20,000", f"{rate:,.0f}", rate >= 20_000)


def rebuild(figures: Any) -> Iterator[Line]:
    """Time and memory."""
    what = f"rebuild of {figures['events']:,} events ({figures['documents']:,} documents)"
    seconds, peak = figures["seconds"], figures["peak_mb"]
    left = "time left shown" if figures["time_left_shown"] else "time left NOT shown"
    good = seconds <= 60 and peak <= 500 and figures["time_left_shown"]
    yield Line(what, "<= 60 s, <= 500 MB", f"{seconds:.1f} s, {peak:.0f} MB, {left}", good)


def start(figures: Any) -> Iterator[Line]:
    """Start and idle memory."""
    large, empty = figures["large"], figures["empty"]
    slowest = max(large["clean"], large["killed"], figures["cold"])
    what = "start with 1,000,000 events and 100,000 mailboxes"
    found = f"{large['clean']:.2f} s, after kill {large['killed']:.2f}, cold {figures['cold']:.2f}"
    yield Line(what, "<= 10 s", f"{found} (empty node {empty['clean']:.2f})", slowest <= 10)
    idle = large["idle_mb"]
    yield Line(
        "memory when idle", "<= 150 MB", f"{idle:.0f} MB (empty node {empty['idle_mb']:.0f})", idle <= 150
    )


def mailboxes(figures: Any) -> Iterator[Line]:
    """Many mailboxes beside few."""
    ratio = figures["p99_ratio"]
    what = f"p99 of accepting, {figures['many']['mailboxes']:,} mailboxes to {figures['few']['mailboxes']}"
    yield Line(what, "<= 1.2 times", f"{ratio:.2f}", ratio <= 1.2)
    threads, mb = figures["threads"], figures["mb"]
    yield Line(
        "threads, before and after", "no growth", f"{threads[1]} and {threads[-1]}", threads[-1] <= threads[1]
    )
    found = f"{mb[0]:.0f}, {mb[1]:.0f} after one round, {mb[-1]:.0f} MB ({figures['actors'][-1]:,} actors)"
    yield Line(f"memory over {figures['mails']:,} mails", "bounded", found, mb[-1] <= 2 * mb[1])


def first_sync(figures: Any) -> Iterator[Line]:
    """A new device."""
    for row in figures:
        ours, peer = row["servers"][NODE]["seconds"], row["servers"][PEER]["seconds"]
        what = f"first sync of {row['documents']:,} documents, batches of {row['batch']}"
        yield Line(what, "<= 20 s", f"{ours:.1f} s ({PEER}: {peer:.1f} s)", ours <= 20)


def live_clients(figures: Any) -> Iterator[Line]:
    """Waiting devices."""
    one, many = figures[0], figures[-1]
    found = (
        f"{many['kb_each']:.0f} KB each, {many['cpu_idle']:.1f} % of a processor idle, p99 "
        f"{many['delivery']['p99']:.1f} ms (with one: {one['delivery']['p99']:.1f} ms)"
    )
    yield Line(f"{many['clients']:,} live clients, 100 mails/s", "", found, met=True)


def federation(figures: Any) -> Iterator[Line]:
    """From node to node, and what a dead peer takes from the others."""
    pair, ten = figures["pair"], figures["ten"]
    alone = f"p50 {pair['p50']:.1f}, p99 {pair['p99']:.1f} ms"
    yield Line("messages/s from node to node, confirmed", "", f"{pair['rate']:,.0f}", met=True)
    yield Line("one message, sent to confirmed", "", alone, met=True)
    found = f"{ten['loss_percent']:.1f} % ({ten['one_dead']:,.0f} to {ten['alive']:,.0f}/s)"
    yield Line("one of ten peers dead: the others lose", "< 5 %", found, ten["loss_percent"] < 5)
    asked = figures["lookups"]
    found = (
        f"{asked['pause']:.1f} ms at most (p99 {asked['pause_p99']:.1f}; a scrypt: {asked['scrypt']:.0f} ms)"
    )
    what = "pause of the loop while emails are looked up"
    yield Line(what, "never as long as a scrypt", found, asked["pause"] < asked["scrypt"])


SECTIONS: dict[str, Callable[[Any], Iterator[Line]]] = {
    "accept": accept,
    "commit_curve": commit_curve,
    "mtp_accept": mtp_accept,
    "visible": visible,
    "replay": replay,
    "materialise": materialise,
    "federation": federation,
    "rebuild": rebuild,
    "start": start,
    "mailboxes": mailboxes,
    "first_sync": first_sync,
    "live_clients": live_clients,
}


def table(results: Results) -> str:
    """Lay out the aims."""
    lines = ["| measure | aim | found | | load average |", "| --- | --- | --- | --- | --- |"]
    for name, section in SECTIONS.items():
        if name not in results:
            continue
        load = " to ".join(map(str, results[name].get("load", ())))
        for line in section(results[name]["figures"]):
            verdict = ("yes" if line.met else "**no**") if line.aim else ""
            lines.append(f"| {line.measure} | {line.aim} | {line.found} | {verdict} | {load} |")
    return "\n".join(lines)


def printed(name: str, result: Mapping[str, Any]) -> str:
    """Give what a measure printed, and when and where that was."""
    module = importlib.import_module(f"benchmarks.{name}")
    figures = msgspec.convert(result["figures"], get_type_hints(module.measure)["return"])
    shown = io.StringIO()
    with redirect_stdout(shown):
        module.show(figures)
    before, after = result["load"]
    where = f"{result['measured']}, {result['machine']}, load average {before} before and {after} after"
    lines = [line.rstrip() for line in shown.getvalue().splitlines()]
    return "\n".join(["```text", *lines, "```", "", f"{where}."])


def filled(text: str, results: Results) -> str:
    """Put every table that there are figures for in its place."""

    def place(found: re.Match[str]) -> str:
        name = found[1]
        if name == AIMS:
            content = table(results)
        elif name in results:
            content = printed(name, results[name])
        else:
            content = "Not measured yet."
        return f"<!-- {name} -->\n\n{content}\n\n<!-- end -->"

    return _PLACE.sub(place, text)


def main() -> None:
    """Fill the page."""
    PAGE.write_text(filled(PAGE.read_text(), recorded()))


if __name__ == "__main__":
    main()
