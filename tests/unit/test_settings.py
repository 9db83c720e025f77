"""Reading settings: sources, types, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.errors import Misconfigured
from node.settings import host_and_port, load


def file_with(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "node.toml"
    file.write_text(text)
    return file


def test_the_environment_stands_above_the_file_and_the_file_above_the_default(tmp_path: Path) -> None:
    file = file_with(tmp_path, '[smtp]\nlisten = "127.0.0.1:1"\nhostname = "file.example"\n')
    effective = load(file, {"MAILIO_SMTP_LISTEN": "127.0.0.1:2"})
    assert effective.settings.smtp.listen == "127.0.0.1:2"
    assert effective.settings.smtp.hostname == "file.example"
    assert effective.sources["smtp.listen"] == "environment MAILIO_SMTP_LISTEN"
    assert effective.sources["smtp.hostname"] == str(file)
    assert effective.sources["http.listen"] == "default"


def test_numbers_lists_and_switches_come_from_the_environment(tmp_path: Path) -> None:
    settings = load(
        None,
        {
            "MAILIO_SMTP_LIMITS_RECIPIENTS": "7",
            "MAILIO_NODE_EMAIL_DOMAINS": "a.example, b.example",
            "MAILIO_HTTP_METRICS": "false",
            "MAILIO_NODE_DATA": str(tmp_path),
        },
    ).settings
    assert settings.smtp.limits.recipients == 7
    assert settings.node.email_domains == ("a.example", "b.example")
    assert settings.http.metrics is False
    assert settings.node.data == tmp_path


def test_paths_in_a_file_start_where_the_file_is(tmp_path: Path) -> None:
    file = file_with(tmp_path, '[node]\ndata = "here"\n[smtp]\ncertificate = "cert.pem"\n')
    settings = load(file, {}).settings
    assert settings.node.data == tmp_path / "here"
    assert settings.smtp.certificate == tmp_path / "cert.pem"


@pytest.mark.parametrize("door", ["smtp", "http"])
def test_a_bad_address_is_found_when_the_file_is_read(tmp_path: Path, door: str) -> None:
    (tmp_path / "node.toml").write_text(f"[{door}]\nlisten = 'nowhere'\n")
    with pytest.raises(Misconfigured, match=f"{door}.listen"):
        load(tmp_path / "node.toml", {})


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"MAILIO_SMTP_LISTN": "x"}, "did you mean MAILIO_SMTP_LISTEN"),
        ({"MAILIO_SMTP_LIMITS_RECIPIENTS": "many"}, "MAILIO_SMTP_LIMITS_RECIPIENTS"),
        ({"MAILIO_SMTP_LIMITS_RECIPIENTS": "0"}, "recipients"),
    ],
)
def test_mistakes_in_the_environment_are_named(environment: dict[str, str], says: str) -> None:
    with pytest.raises(Misconfigured, match=says):
        load(None, environment)


def test_an_unknown_setting_is_answered_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"did you mean node\.quota_bytes"):
        load(file_with(tmp_path, "[node]\nquota_byte = 1\n"), {})


@pytest.mark.parametrize("listen", ["", "localhost", ":25", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"])
def test_an_address_needs_a_host_and_a_port(listen: str) -> None:
    with pytest.raises(Misconfigured, match=r"smtp\.listen"):
        host_and_port("smtp.listen", listen)


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert host_and_port("smtp.listen", "[::1]:25") == ("::1", 25)
