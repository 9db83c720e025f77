"""Certificates for STARTTLS."""

from __future__ import annotations

import ssl
from pathlib import Path

from events.errors import Misconfigured


def load_tls(certificate: Path, private_key: Path) -> ssl.SSLContext:
    """Read a certificate chain and its key, both PEM. TLS 1.2 and later (RFC 8996, RFC 9325).

    Raises Misconfigured naming the file to look at.
    """
    for setting, file in (("smtp.certificate", certificate), ("smtp.private_key", private_key)):
        try:
            file.open("rb").close()
        except OSError as error:
            raise Misconfigured(f"{setting}: {file}: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Renegotiation costs the server more than the client and serves nobody here.
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(certificate, private_key)
    except ssl.SSLError as error:
        raise Misconfigured(
            f"smtp.certificate: {certificate} and {private_key} are no PEM pair: {error.reason or error}"
        ) from error
    return context
