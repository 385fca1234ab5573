"""TLS to the node: who is trusted, that check and collect agree on it, and why a handshake failed."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from pexip_history.errors import NodeError, Passing
from pexip_history.node.answers import PageReader, names_of, too_many_values
from pexip_history.node.certificates import describe

# private: no server sends its pieces to the byte
from pexip_history.node.connection import Connection, _read, peer_certificate
from tests.management_node import certificates
from tests.raw_node import RawNode, Send


@dataclass(frozen=True)
class Known:
    """By what the node is known."""

    address: str
    ca_pem: str | None = None
    fingerprint: str | None = None
    tls_verify: bool = True


def talk(_target: str, send: Send) -> None:
    send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


def pin(certificate: certificates.Certificate) -> str:
    return certificate.fingerprint.replace(":", "").lower()


CA = certificates.issued().ca.decode()
RIGHT, WRONG_NAME, SELF_SIGNED = certificates.issued(), certificates.wrong_name(), certificates.self_signed()
LEAF = RIGHT.chain.decode().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("certificate", "ca", "pinned", "verify", "trusted"),
    [
        (RIGHT, CA, None, True, True),
        (RIGHT, None, None, True, False),
        (RIGHT, CA, RIGHT, True, True),
        (RIGHT, CA, SELF_SIGNED, True, False),
        (RIGHT, None, RIGHT, True, True),
        (WRONG_NAME, CA, None, True, False),
        (WRONG_NAME, CA, WRONG_NAME, True, True),
        (WRONG_NAME, CA, RIGHT, True, False),
        (WRONG_NAME, None, WRONG_NAME, True, True),
        (SELF_SIGNED, CA, SELF_SIGNED, True, False),
        (SELF_SIGNED, None, SELF_SIGNED, True, True),
        (SELF_SIGNED, None, None, False, True),
        (SELF_SIGNED, SELF_SIGNED.chain.decode(), None, True, True),
        (RIGHT, LEAF, None, True, True),  # its own certificate will do, no matter who issued it
    ],
)
def test_check_and_collect_trust_the_same_nodes(
    certificate: certificates.Certificate,
    ca: str | None,
    pinned: certificates.Certificate | None,
    verify: bool,
    trusted: bool,
) -> None:
    with RawNode(talk, certificate=certificate) as node:
        known = Known(node.address, ca, pin(pinned) if pinned else None, verify)
        ways: tuple[Callable[[], object], ...] = (
            lambda: peer_certificate(known),
            lambda: Connection(known).ask(f"https://{known.address}/", {}),
        )
        said = []
        for way in ways:
            try:
                way()
                said.append("")
            except NodeError as error:
                said.append(str(error))
    assert said[0] == said[1]
    assert (said[0] == "") is trusted
    assert trusted or certificate.fingerprint in said[0], "which one was presented"
    assert bool(node.targets) is trusted, "no request before trust"


def old(context: ssl.SSLContext) -> None:
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")


def odd(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-CCM")


@pytest.mark.filterwarnings("ignore:.*TLSv1 is deprecated")
@pytest.mark.parametrize(
    ("change", "says"), [(old, "only TLS older than 1.2 is offered"), (odd, "no cipher that both sides take")]
)
def test_a_handshake_that_cannot_succeed_is_named_for_what_it_is(
    change: Callable[[ssl.SSLContext], None], says: str
) -> None:
    with RawNode(talk) as node:
        change(node.server.context)
        for verify in (True, False):
            with pytest.raises(NodeError, match=says) as caught:
                Connection(Known(node.address, CA, tls_verify=verify)).ask(f"https://{node.address}/", {})
            assert not isinstance(caught.value, Passing), "repeating it would not help"


def test_a_certificate_is_described_by_what_an_administrator_compares() -> None:
    with RawNode(talk, certificate=SELF_SIGNED) as node:
        shown = describe(peer_certificate(Known(node.address, tls_verify=False)))
    assert SELF_SIGNED.fingerprint in shown
    assert "valid until 20" in shown


def test_an_answer_has_its_bounds_to_one_more() -> None:
    names_of([{"a" * 200: 1, **{f"f{n}": 1 for n in range(499)}}])
    for record in ({f"f{n}": 1 for n in range(501)}, {"a" * 201: 1}):
        with pytest.raises(NodeError):
            names_of([record])
    assert [too_many_values(b"," * number) for number in (400_000, 400_001)] == [False, True]
    for name in (b"1", b"NaN"):  # which only json takes
        record = b'{"id": 1, "name": %s}' % name
        body = b'{"meta": {}, "objects": [%s, %s]}' % (record, record)
        read = PageReader(2)
        assert [len(read(body)[1]["id"]) for _ in range(2)] == [2, 2], "the second the quick way"
        for reader in (read, PageReader(1)):
            with pytest.raises(NodeError, match="records at once"):
                reader(body.replace(b"[", b"[%s, " % record))


@pytest.mark.parametrize("packed", [{}, {"Content-Encoding": "gzip"}])
def test_a_body_is_read_to_one_byte_more_than_may_be(packed: dict[str, str]) -> None:
    """Whatever pieces it comes in: so one that is larger is never taken for a whole one."""

    def read(most: int, decode_content: bool) -> bytes:
        return bytes(min(most, 5 if packed else 100))

    assert len(_read(SimpleNamespace(headers=packed, length_remaining=None, read=read), 10)) == 11
