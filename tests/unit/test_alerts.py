"""The alert rules: every metric that they name is one that the node has."""

from __future__ import annotations

import re
from pathlib import Path

from node.api.app import build_app
from node.api.metrics import Metrics, Traffic
from node.core import Core
from node.smtp.door import SmtpDoor
from tests.integration.api.harness import settings_for

RULES = Path(__file__).parents[2] / "config" / "alerts.yml"


async def test_every_rule_rests_on_a_metric_that_exists(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    core = Core(settings)
    try:
        smtp = SmtpDoor(core.acceptance, settings.smtp.limits, tls=None, hostname="x", clock=core.clock)
        build_app(core, smtp)
        core.federation.outgoing.of("beta.example").failed += 1
        text = Metrics(core, smtp, Traffic()).text().decode()
    finally:
        await core.close()
    have = set(re.findall(r"^# TYPE (mailio_\w+) ", text, re.MULTILINE))
    named = set(re.findall(r"\bmailio_\w+", "".join(_expressions())))
    assert named
    assert named <= have


def _expressions() -> list[str]:
    return re.findall(r"^ +expr: (.*)$", RULES.read_text(), re.MULTILINE)


def test_every_rule_says_what_is_the_matter() -> None:
    text = RULES.read_text()
    assert (
        text.count("- alert: ") == len(_expressions()) == text.count("summary: ") == text.count("severity: ")
    )
    names = re.findall(r"- alert: (\w+)", text)
    assert len(set(names)) == len(names)
