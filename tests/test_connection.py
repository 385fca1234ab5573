"""TLS to the node: who is trusted, that check and collect agree on it, and why a handshake failed."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from types import SimpleNamespace

import msgspec
import pytest

from pexip_history.errors import NodeError, Passing, TooMany
from pexip_history.node.answers import Columns, PageReader, names_of, too_many_values
from pexip_history.node.certificates import tls_context

# private: no server sends its pieces to the byte
from pexip_history.node.connection import Connection, _read, peer_certificate
from pexip_history.node.records import Page, listings, nested, page_of, streams, uri_id
from pexip_history.node.refusals import Answer, seconds_ahead, status_error
from pexip_history.resources import CONFERENCE, PARTICIPANT
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


@pytest.mark.parametrize(("address", "kind"), [("127.0.0.1:9", Passing), ("no-such-host.invalid", NodeError)])
def test_a_node_that_refuses_may_be_starting_and_a_name_that_is_unknown_stays_so(
    address: str, kind: type[NodeError]
) -> None:
    with pytest.raises(NodeError) as caught:
        Connection(Known(address)).ask(f"https://{address}/", {})
    assert type(caught.value) is kind


def test_an_answer_whose_chunks_go_wrong_was_cut_on_the_way() -> None:
    with RawNode(lambda target, send: send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")) as node:
        with pytest.raises(Passing, match="cut short"):
            Connection(Known(node.address, CA)).ask(f"https://{node.address}/", {})


def test_no_variable_names_authorities_and_no_file_gets_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
    for name in names:
        monkeypatch.setenv(name, "/nowhere")
    assert tls_context(Known("mgr")).keylog_filename is None
    assert not {*names} & os.environ.keys()


def test_a_page_is_read_the_same_way_twice_where_it_nests_conferences() -> None:
    read, body = PageReader(), b'{"meta": {}, "objects": [{"id": 1, "conference": {"id": 7}}]}'
    assert [[*read(body)[1]["conference"]] for _ in range(2)] == [[{"id": 7}], [{"id": 7}]]


def test_an_answer_has_its_bounds_to_one_more() -> None:
    names_of([{"a" * 200: 1, **{f"f{n}": 1 for n in range(499)}}])
    for record in ({f"f{n}": 1 for n in range(501)}, {"a" * 201: 1}):
        with pytest.raises(NodeError):
            names_of([record])
    assert [too_many_values(b"," * number) for number in (400_000, 400_001)] == [False, True]
    # The second only json takes, and of the third nothing can be learned.
    for record in (b'{"id": 1, "name": 1}', b'{"id": 1, "name": NaN}', rb'{"id": 1, "na\"me": 1}'):
        body = b'{"meta": {}, "objects": [%s, %s]}' % (record, record)
        read = PageReader(2)
        assert [len(read(body)[1]["id"]) for _ in range(2)] == [2, 2], "the second the quick way"
        for reader in (read, PageReader(1)):
            with pytest.raises(NodeError, match="records at once"):
                reader(body.replace(b"[", b"[%s, " % record))


@pytest.mark.parametrize(
    ("value", "id"),
    [
        *[(value, None) for value in (None, True, [], {}, "", "/", "{}")],
        *[(value, "7") for value in ("/a/conference/7/", "7", 7, {"id": 7, "resource_uri": "/a/8/"}, '{"id": 7}')],
        ({"resource_uri": "/a/8/"}, "8"),
        ("{7", "{7"),
        ("/a/\ud800/", "?"),
    ],
)
def test_the_id_of_a_record_is_read_from_whatever_refers_to_it(value: object, id: str | None) -> None:
    assert uri_id(value) == id


def test_a_nested_list_is_read_whether_it_was_decoded_or_not() -> None:
    for value in (["a"], '["a"]', msgspec.Raw(b'["a"]')):
        assert nested(value) == ["a"]
    for value in (None, 7, '{"a": 1}', "no JSON", {"a": 1}):
        assert nested(value) == []


def test_streams_have_their_participants_id_and_conferences_list_their_own() -> None:
    given = [[{"id": 1, "rx": 2}, "odd"], msgspec.Raw(b'[{"id": 2, "tx": 3}]'), None]
    found = streams(Page({"id": ["p1", "p2", "p3"], "media_streams": given}, 3))
    assert [*found] == [{"participant_id": ["p1", "p2"], "id": [1, 2], "rx": [2, None], "tx": [None, 3]}]
    with pytest.raises(NodeError, match="502 fields"):
        next(streams(Page({"id": ["p1"], "media_streams": [[{f"f{n}": 1 for n in range(501)}]]}, 1)))
    held = Page({"id": ["c1"], "participants": [["/x/p1/", "/x/p2/", ""]]}, 1)
    assert [*listings(held)] == [("p1", "c1"), ("p2", "c1")]
    assert held.only([]).ids == []
    assert (Page({"id": [7]}, 1).times, Page({"id": [7]}, 1).column("name")) == ([""], [None])
    for end in ("2026-11-24T00:00:00Z", "2026-11-24T01:00:00+01:00", "2026-11-23T19:00:00-05:00"):
        assert Page({"id": [7], "end_time": [end]}, 1).times == ["2026-11-24T00:00:00"]


def test_a_page_is_refused_that_no_list_has_and_refers_to_conferences_in_one_way() -> None:
    good: Columns = {"id": ["1", "2"], "conference": [{"id": "7", "resource_uri": "/a/7/"}, "/a/8/"], "x": [1, 2]}
    page = page_of(PARTICIPANT, {"total_count": 2, "next": "/b"}, {**good, "historic_call_quality": [[], []]})
    assert (page.columns, page.following, page.total) == ({**good, "conference": ["/a/7/", "/a/8/"]}, "/b", 2)
    assert (
        "historic_call_quality"
        in page_of(CONFERENCE, {"total_count": 0}, {"historic_call_quality": [], **good}, whole=True).columns
    )
    assert page_of(CONFERENCE, {"total_count": 100_000_000}, {}).following is None
    for total, columns in ((None, good), (-1, good), (100_000_001, good), (2, {"name": ["x"]})):
        with pytest.raises(NodeError):
            page_of(CONFERENCE, {"total_count": total}, columns)


def test_a_header_is_so_many_seconds_or_a_date_of_whatever_zone() -> None:
    moment = datetime.now(UTC) + timedelta(hours=1)
    oslo = moment.astimezone(timezone(timedelta(hours=1)))
    for text in (
        format_datetime(moment, usegmt=True),
        format_datetime(oslo),
        format_datetime(moment.replace(tzinfo=None)),
    ):
        assert 3598 < (seconds_ahead(text) or 0) <= 3600, text
    assert [seconds_ahead(text) for text in ("0", "007", "1" * 10, "1.5", "soon", "", None)] == [0, 7, *[None] * 5]


@pytest.mark.parametrize(
    ("status", "header", "kind", "wait", "says"),
    [
        (429, None, TooMany, 20, "too many requests"),
        (429, "7", Passing, 7, "too many requests"),
        (429, "-7", TooMany, 20, "too many requests"),
        (408, None, Passing, 0, "answered 408"),
        (500, "120", Passing, 120, "a problem of its own; "),
        (599, "121", Passing, 121, "a problem of its own and asks to wait 121 s"),
        *[(status, None, NodeError, None, "it is not followed") for status in (300, 399)],
        *[(status, "7", NodeError, None, "never does") for status in (299, 400, 409, 430, 499)],
    ],
)
def test_a_status_means_the_same_wherever_it_is_met(
    status: int, header: str | None, kind: type[NodeError], wait: float | None, says: str
) -> None:
    error = status_error("node", Answer(status, {"Retry-After": header} if header else {}, b""))
    assert type(error) is kind
    assert getattr(error, "retry_after", None) == wait
    assert says in str(error)


@pytest.mark.parametrize("packed", [{}, {"Content-Encoding": "gzip"}])
def test_a_body_is_read_to_one_byte_more_than_may_be(packed: dict[str, str]) -> None:
    """Whatever pieces it comes in: so one that is larger is never taken for a whole one."""

    def read(most: int, decode_content: bool) -> bytes:
        return bytes(min(most, 5 if packed else 100))

    assert len(_read(SimpleNamespace(headers=packed, length_remaining=None, read=read), 10)) == 11
