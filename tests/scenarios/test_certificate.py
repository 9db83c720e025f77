"""STARTTLS with the operator's certificate, and a renewed one without a restart."""

from __future__ import annotations

import datetime as dt
import signal
import smtplib
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.daemon import Daemon


def write_certificate(folder: Path, serial: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(serial)
        .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=90))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def presented_serial(daemon: Daemon) -> int:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=30) as client:
        client.starttls(context=context)
        assert isinstance(client.sock, ssl.SSLSocket)
        presented = client.sock.getpeercert(binary_form=True)
    assert presented is not None
    return x509.load_der_x509_certificate(presented).serial_number


def test_a_renewed_certificate_is_used_after_sighup_and_a_bad_one_is_not(tmp_path: Path) -> None:
    write_certificate(tmp_path, 111)
    daemon = Daemon(tmp_path, **{"smtp.certificate": "cert.pem", "smtp.private_key": "key.pem"})
    try:
        daemon.start()
        assert daemon.process is not None
        assert presented_serial(daemon) == 111
        write_certificate(tmp_path, 222)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for(lambda: presented_serial(daemon) == 222, "the old certificate is still presented")
        (tmp_path / "cert.pem").write_text("not a certificate")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for(lambda: "the old certificate stays" in daemon.printed(), "nothing was reported")
        assert presented_serial(daemon) == 222
    finally:
        daemon.end()


def test_a_certificate_that_can_not_be_read_is_one_clear_line(stopped: Daemon) -> None:
    stopped.settings["smtp.certificate"] = "nowhere.pem"
    stopped.configure()
    done = stopped.command("run", check=False)
    assert done.returncode == 78
    assert "smtp.certificate" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
