"""Certificates of a management node: a company's own CA, and what goes wrong with them."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Certificate:
    chain: bytes
    """PEM, the node's own certificate first."""
    key: bytes
    ca: bytes
    """PEM of what a client has to trust."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the node's certificate as openssl prints it: AB:CD:..."""
        digest = x509.load_pem_x509_certificate(self.chain).fingerprint(hashes.SHA256())
        return digest.hex(":").upper()

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "node.pem")
            file.write_bytes(self.key + self.chain)
            context.load_cert_chain(file)
        return context


@cache
def authority() -> trustme.CA:
    """The company's CA, one for the whole process: making a key takes its time."""
    return trustme.CA(organization_name="Example AS", key_type=trustme.KeyType.ECDSA)


def issued(*names: str, not_after: datetime | None = None) -> Certificate:
    """By the company's CA, for these names or IP addresses (default: the loopback's)."""
    ca = authority()
    leaf = ca.issue_cert(*(names or LOOPBACK), not_after=not_after, key_type=trustme.KeyType.ECDSA)
    return Certificate(
        chain=b"".join(part.bytes() for part in leaf.cert_chain_pems),
        key=leaf.private_key_pem.bytes(),
        ca=ca.cert_pem.bytes(),
    )


def expired() -> Certificate:
    return issued(not_after=datetime.now(UTC) - timedelta(days=1))


def wrong_name() -> Certificate:
    return issued("another.example.com")


def self_signed(*names: str, subject: str = "mgr") -> Certificate:
    """Its own authority, with the extensions that `openssl req -x509` gives."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]), datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=365))
    for extension in (
        x509.SubjectAlternativeName([_general_name(n) for n in names or LOOPBACK]),
        x509.BasicConstraints(ca=True, path_length=None),
        identifier,
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
    ):
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    form = serialization.PrivateFormat.PKCS8
    held = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return Certificate(chain=pem, key=held, ca=pem)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
