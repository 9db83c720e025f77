"""One node, with a certificate, for all attacks: none of them may hinder the next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, running
from tests.integration.smtp.support import make_certificate


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("attacked")
    certificate, key = make_certificate(folder, "mx.alpha.example")
    settings = {"smtp__certificate": str(certificate), "smtp__private_key": str(key)}
    with running(folder, **settings, http__origins=["https://mail.alpha.example"]) as started:
        yield started
        assert "Traceback" not in started.printed(), "an attack made the node fail"


@pytest.fixture(scope="session")
def victim(daemon: Daemon) -> str:
    """Email of somebody who has an account."""
    email: str = daemon.account("victim@alpha.example")["email"]
    return email


@pytest.fixture
def folder(daemon: Daemon) -> Path:
    return daemon.folder
