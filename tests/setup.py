"""Set up what the tests need beside Python: system packages and npm packages.

Installs them when it may (root and apt-get); otherwise prints one list of what is missing and how to get
it, and exits 1. Nothing is ever skipped because something is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

TESTS = Path(__file__).parent

MIN_NODE = 20
"""Major version of Node.js from which on Ed25519 and X25519 are in WebCrypto; PouchDB needs less."""


class Need(msgspec.Struct, frozen=True):
    """A program that the tests run, the Debian packages that bring it, and what for.

    `probe` is a command that succeeds when the program has all that it needs.
    """

    program: str
    packages: tuple[str, ...]
    purpose: str
    probe: tuple[str, ...] = ()


NEEDS = (
    Need("node", ("nodejs",), "PouchDB as the syncing client, the reference client"),
    Need("npm", ("npm",), "PouchDB and the CouchDB-protocol server"),
    Need("chromium", ("chromium",), "PouchDB in a browser"),
    Need(
        "swaks",
        ("swaks", "libnet-ssleay-perl"),
        "an SMTP client, with STARTTLS",
        ("perl", "-MNet::SSLeay", "-e1"),
    ),
    Need("gcc", ("gcc", "libc6-dev"), "the library that plays a failing disk"),
    Need("smtp-source", ("postfix",), "load, and Postfix as the peer of the benchmarks"),
)


def find(program: str) -> str | None:
    """Find a program, also where only root looks."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def missing() -> list[Need]:
    """Return what is not there."""
    return [need for need in NEEDS if not is_there(need)]


def is_there(need: Need) -> bool:
    """Whether a program is installed and works."""
    if find(need.program) is None:
        return False
    return not need.probe or subprocess.run(need.probe, capture_output=True).returncode == 0


def install(needs: list[Need]) -> None:
    """Install Debian packages; raises CalledProcessError."""
    packages = sorted({package for need in needs for package in need.packages})
    print(f"installing {', '.join(packages)}", flush=True)
    quiet = {"env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, "check": True}
    subprocess.run(["apt-get", "update", "-qq"], **quiet)  # type: ignore[call-overload]
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    subprocess.run(command, stdout=subprocess.DEVNULL, **quiet)  # type: ignore[call-overload]


def complain(needs: list[Need]) -> None:
    """Print what is missing and how to get it."""
    print("The tests need programs that are not here:", file=sys.stderr)
    for need in needs:
        print(f"  {need.program:<12} {need.purpose}", file=sys.stderr)
    packages = " ".join(sorted({package for need in needs for package in need.packages}))
    print(f"Get them with: sudo apt-get install {packages}", file=sys.stderr)


def npm_packages() -> None:
    """Install what tests/package.json names, unless that is done already."""
    lock = TESTS / "package-lock.json"
    done = TESTS / "node_modules" / ".package-lock.json"
    if done.exists() and done.stat().st_mtime >= lock.stat().st_mtime:
        return
    print("installing the npm packages of the tests", flush=True)
    npm = find("npm")
    assert npm is not None
    subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=TESTS, check=True, timeout=600
    )


def main() -> int:
    """Set everything up; 0 when all is there."""
    needs = missing()
    if needs and os.geteuid() == 0 and shutil.which("apt-get"):
        install(needs)
        needs = missing()
    if needs:
        complain(needs)
        return 1
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < MIN_NODE:
        print(f"Node.js {MIN_NODE} or newer is needed, this is {version.strip()}", file=sys.stderr)
        return 1
    npm_packages()
    return 0


if __name__ == "__main__":
    sys.exit(main())
