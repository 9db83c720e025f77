"""Plots of the README from `results.json`: `python -m benchmarks.plots` (needs the extra `bench`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from benchmarks.results import recorded

FOLDER = Path(__file__).parent
Results = Mapping[str, Any]

BLUE, ORANGE, GREY, GREEN = "#1f5fa8", "#d9822b", "#8a8f98", "#3d8a5f"


def ours_first(name: str) -> tuple[bool, str]:
    """Sort the node before those that it is compared with."""
    return name != "this node", name


def captioned(result: Results) -> str:
    """Say where figures come from."""
    before, after = result["load"]
    return f"{result['machine']}; load average {before} before, {after} after; medians"


def commit_curve(results: Results) -> Figure:
    """Rate, latency and syncs by sessions."""
    result = results["commit_curve"]
    steps = result["figures"]
    sessions = [step["sessions"] for step in steps]
    figure, (rate, latency, syncs) = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    rate.plot(sessions, [step["rate"] for step in steps], "o-", color=BLUE)
    rate.set(title="accepted mails/s", ylim=0)
    latency.plot(sessions, [step["p50"] for step in steps], "o-", color=BLUE, label="p50")
    latency.plot(sessions, [step["p99"] for step in steps], "s--", color=ORANGE, label="p99")
    latency.set(title="MAIL FROM to 250, ms", yscale="log")
    latency.legend(frameon=False)
    known = [step for step in steps if step["accept_syncs"] is not None]
    syncs.plot([s["sessions"] for s in known], [s["accept_syncs"] for s in known], "o-", color=GREEN)
    syncs.set(title="syncs per accepted mail", yscale="log")
    for axis in (rate, latency, syncs):
        axis.set(xscale="log", xlabel="sessions")
        axis.set_xticks(sessions, [str(count) for count in sessions])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    figure.supxlabel(captioned(result), fontsize=7, color=GREY)
    return figure


def accept(results: Results) -> Figure:
    """Accepted mails a second of each server, by load."""
    result = results["accept"]
    rows = [row for row in result["figures"] if row["bytes"] == 2_048]
    rows.sort(key=lambda row: row["sessions"])
    names = sorted(rows[0]["servers"], key=ours_first)
    figure, axis = plt.subplots(figsize=(10, 3.2), layout="constrained")
    colours = (BLUE, ORANGE, "#e8b98a", GREY, "#c3c7cd")
    for place, (name, colour) in enumerate(zip(names, colours, strict=True)):
        values = [row["servers"][name]["accepted"] for row in rows]
        at = [number + (place - 2) * 0.17 for number in range(len(rows))]
        axis.bar(at, values, width=0.16, label=name, color=colour)
    axis.set_xticks(range(len(rows)), [str(row["sessions"]) for row in rows])
    axis.set(title="mails of 2 KB accepted per second", xlabel="sessions")
    axis.legend(frameon=False, fontsize=8)
    axis.grid(alpha=0.3, axis="y")
    figure.supxlabel(captioned(result), fontsize=7, color=GREY)
    return figure


def visible(results: Results) -> Figure:
    """How soon a mail is in a live PouchDB, by rate."""
    result = results["visible"]
    rows = result["figures"]
    figure, axis = plt.subplots(figsize=(5, 3.2), layout="constrained")
    places = range(len(rows))
    axis.bar(
        [p - 0.2 for p in places], [row["visible"]["p50"] for row in rows], 0.38, color=BLUE, label="p50"
    )
    axis.bar(
        [p + 0.2 for p in places], [row["visible"]["p99"] for row in rows], 0.38, color=ORANGE, label="p99"
    )
    axis.set_xticks(places, [f"{row['rate']}/s" for row in rows])
    axis.set(yscale="log", title="250 to visible in a live PouchDB, ms")
    axis.legend(frameon=False)
    axis.grid(alpha=0.3, axis="y")
    figure.supxlabel(captioned(result), fontsize=6, color=GREY)
    return figure


PLOTS: dict[str, Callable[[Results], Figure]] = {
    "commit_curve": commit_curve,
    "accept": accept,
    "visible": visible,
}


def main() -> None:
    """Draw everything that has figures."""
    results = recorded()
    for name, draw in PLOTS.items():
        if name in results:
            figure = draw(results)
            figure.savefig(FOLDER / f"{name}.png", dpi=100, metadata={"Software": None})
            plt.close(figure)


if __name__ == "__main__":
    main()
