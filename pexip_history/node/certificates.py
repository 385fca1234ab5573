"""Which certificates are trusted, and what to say of one that is not."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from pexip_history.errors import QUOTED, NodeError, printable
from pexip_history.messages import sentence
from pexip_history.settings.environment import Settings

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def tls_context(settings: Settings) -> ssl.SSLContext:
    """The setting's or the system's authorities; not what SSL_CERT_FILE and SSL_CERT_DIR name.

    A fingerprint names the certificate itself: the caller compares it, and the name in it may be any.
    """
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        os.environ.pop(name, None)
    context = ssl.create_default_context(cadata=settings.ca_pem)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # As Python 3.13 has it: a CA_FILE may hold the node's own certificate. But not its strictness
    # about extensions that older company CAs lack.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if settings.fingerprint or not settings.tls_verify:
        context.check_hostname = False
    if not settings.tls_verify or (settings.fingerprint and not settings.ca_pem):
        context.verify_mode = ssl.CERT_NONE
    return context


def certificate_error(error: BaseException, address: str, certificate: Certificate | None) -> NodeError:
    """What is wrong with the certificate, which one it is, and how to fix it, safest first."""
    from cryptography.x509 import DNSName, IPAddress, SubjectAlternativeName

    shown, listed = "it could not be read", ["none"]
    # Whatever cryptography makes of a certificate that a stranger wrote: the sentence has to come.
    with suppress(Exception):
        assert certificate
        shown = describe(certificate)
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
        listed = [*names.get_values_for_type(DNSName), *map(str, names.get_values_for_type(IPAddress))]
    if not isinstance(error, ssl.SSLCertVerificationError):
        return NodeError(sentence("fingerprint-differs", address=address, shown=shown))
    name = f"DEFAULT_MGR_ADDRESS=a name that the certificate has ({printable(', '.join(listed), 1000)})"
    first = {
        18: "DEFAULT_MGR_CA_FILE=a PEM file with that certificate, after you have compared it with the node's own",
        10: "renew the node's certificate, it has expired",
        62: name,
        64: name,
    }.get(error.verify_code, "DEFAULT_MGR_CA_FILE=a PEM file with the CA that signed it")
    reason = error.verify_message.rstrip(".")
    return NodeError(sentence("certificate-unverified", address=address, reason=reason, shown=shown, first=first))


def describe(certificate: Certificate) -> str:
    """Subject, issuer, expiry (UTC) and SHA-256 fingerprint."""
    from cryptography.hazmat.primitives.hashes import SHA256

    fingerprint = certificate.fingerprint(SHA256()).hex(":").upper()
    subject, issuer = (printable(name.rfc4514_string(), QUOTED) for name in (certificate.subject, certificate.issuer))
    return (
        f"subject {subject!r}, issuer {issuer!r},"
        f" valid until {certificate.not_valid_after_utc:%Y-%m-%d}, SHA-256 {fingerprint}"
    )
