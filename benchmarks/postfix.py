"""A private Postfix on loopback: the peer of the accept benchmark.

It has two ports. What comes to the one is delivered into a Maildir. What comes to the other is held: the
message is in a synced file of Postfix's queue when `250` is said, and nobody takes it out; that is accepting
and nothing else.

Debian's package, default sync settings, its own configuration, queue and log below a private folder. Root
is needed, because Postfix's master is started as root.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DAEMONS = Path("/usr/lib/postfix/sbin")
START_SECONDS = 20.0

SERVICES = """\
127.0.0.1:{port} inet n - n - {processes} smtpd
127.0.0.1:{holding} inet n - n - {processes} smtpd
  -o {{ smtpd_recipient_restrictions=check_recipient_access static:HOLD, permit_mynetworks, reject }}
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def configuration(folder: Path) -> str:
    """Write main.cf: one virtual domain, any user, Maildir, no limits per client."""
    owner = pwd.getpwnam("postfix")
    return f"""\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {DAEMONS}
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = mx.alpha.example
mydestination =
virtual_mailbox_domains = alpha.example
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:someone/
virtual_mailbox_limit = 0
virtual_uid_maps = static:{owner.pw_uid}
virtual_gid_maps = static:{owner.pw_gid}
virtual_minimum_uid = 1
alias_maps =
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_relay_restrictions = permit_mynetworks, reject

mynetworks = 127.0.0.0/8
in_flow_delay = 0
default_process_limit = 100
maillog_file_prefixes = {folder}
maillog_file = {folder}/mail.log
"""


@contextmanager
def postfix(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """Run Postfix; gives the port that delivers, the one that holds, and the Maildir."""
    port, holding = free_port(), free_port()
    settings = folder / "etc"
    for name in ("etc", "queue", "data", "mail"):
        (folder / name).mkdir(parents=True)
    for name in ("data", "mail"):
        shutil.chown(folder / name, "postfix", "postfix")
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.getuid() and not parent.stat().st_mode & 0o001 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    (settings / "main.cf").write_text(configuration(folder))
    (settings / "master.cf").write_text(SERVICES.format(port=port, holding=holding, processes=100))
    run = ["postfix", "-c", str(settings)]
    environment = os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin"}
    subprocess.run([*run, "start"], check=True, capture_output=True, env=environment)
    try:
        _wait(port)
        _wait(holding)
        yield port, holding, folder / "mail" / "someone"
    finally:
        subprocess.run([*run, "stop"], check=False, capture_output=True, env=environment)


def _wait(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def delivered(maildir: Path) -> int:
    """Count what Postfix has delivered."""
    new = maildir / "new"
    return len(os.listdir(new)) if new.is_dir() else 0
