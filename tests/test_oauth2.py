"""An OAuth2 client instead of a user: tokens got, kept and renewed, and a sentence for every refusal.

The node of these tests checks with Authlib what the collector signs with PyJWT, and takes no password.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl

import pytest
import requests
from time_machine import travel

from pexip_history.errors import NodeError, Passing
from pexip_history.node.credentials import Basic, token_url
from pexip_history.node.credentials import OAuth2 as Credentials
from pexip_history.node.refusals import BUSY_WAIT, Answer
from tests.forked import ForkedCollector
from tests.harness import Site, environment_for
from tests.management_node import ManagementNode, OAuth2, calls, faults
from tests.management_node.server import Request

pytestmark = pytest.mark.slow

DAY = date(2026, 11, 23)
MORNING = datetime(2026, 11, 24, 0, 0, 30)
CALLS = list(calls(seed=5, day=DAY, conferences=12))
PARTICIPANTS = sorted(one["id"] for _, present in CALLS for one in present)
CLIENT = "5f1c0a4e-client"
NAMED = f"OAuth2 client {CLIENT} (Users & Devices > OAuth2 Clients)"
KEYS = ("DEFAULT_MGR_CLIENT_ID", "DEFAULT_MGR_CLIENT_KEY_FILE")


def for_a_token(request: Request) -> bool:
    return request.path == "/oauth/token/"


@pytest.fixture(scope="module")
def loaded() -> Iterator[ManagementNode]:
    with ManagementNode(max_limit=20, basic=False, tells_time=True) as node:
        node.load(CALLS)
        yield node


@pytest.fixture
def pem(loaded: ManagementNode) -> Iterator[bytes]:
    loaded.oauth2 = OAuth2()
    loaded.now = MORNING
    yield loaded.oauth2.add(CLIENT)
    loaded.faults.clear()
    loaded.server.forget_requests()
    loaded.basic, loaded.tells_time, loaded.max_limit = False, True, 20


@pytest.fixture
def client(loaded: ManagementNode, pem: bytes, tmp_path: Path, forked: ForkedCollector) -> Site:
    """The collector, with a client's key in a file and no password, at the node's time."""
    data, key = tmp_path / "data", tmp_path / "client_key.pem"
    key.write_bytes(pem)
    env = environment_for(loaded, data) | dict(zip(KEYS, (CLIENT, str(key)), strict=True))
    del env["DEFAULT_MGR_SECRET"]
    client = Site(data, env, loaded, forked)
    client.moment = MORNING
    return client


def collects_all(collector: Site, node: ManagementNode, *arguments: str) -> str:
    outcome = collector("collect", *arguments)
    assert outcome.code == 0, outcome.output
    assert not node.faults.waiting, "the fault did happen"
    assert sorted(row["id"] for row in collector.rows("pexHistoryPart.csv")) == PARTICIPANTS
    assert node.server.peak == 1
    assert "Warning:" not in outcome.output
    return outcome.output


def fails(collector: Site) -> str:
    """What the one line of error says."""
    outcome = collector("collect")
    assert outcome.code == 1, outcome.output
    assert not collector.files()
    [line] = [line for line in outcome.stderr.splitlines() if " ERROR " in line]
    return line.partition(" ERROR ")[2]


def statuses(node: ManagementNode) -> tuple[list[int | None], list[int | None]]:
    """How requests for a token were answered, and how the others were."""
    asked = [[r.status for r in node.requests if for_a_token(r) is token] for token in (True, False)]
    return asked[0], asked[1]


def way_in(node: ManagementNode, pem: bytes, audience: str | None = None, client: str = CLIENT) -> Credentials:
    def post(url: str, form: Mapping[str, str]) -> Answer:
        answer = requests.post(url, data=form, verify=str(node.ca_file), allow_redirects=False, timeout=5)
        return Answer(answer.status_code, answer.headers, answer.content)

    return Credentials(node.address, client, pem, audience, post)


def refusal(node: ManagementNode, pem: bytes, **settings: str) -> NodeError:
    """The error in place of a token."""
    with travel(MORNING), pytest.raises(NodeError) as caught:
        way_in(node, pem, **settings).header()
    assert "eyJ" not in str(caught.value), "no part of the signed request"
    return caught.value


# A run


def test_a_run_gets_one_token_by_a_request_that_works_once_where_basic_is_off(
    client: Site, loaded: ManagementNode
) -> None:
    collects_all(client, loaded)
    tokens, others = statuses(loaded)
    assert tokens == [200]
    assert set(others) == {200}
    assert {r.headers["Authorization"].split()[0] for r in loaded.requests[1:]} == {"Bearer"}
    asked = loaded.requests[0]
    assert asked.headers["Authorization"] is None
    again = requests.post(
        loaded.url + asked.target, data=dict(parse_qsl(asked.body.decode())), verify=str(loaded.ca_file), timeout=5
    )
    assert (again.status_code, again.json()["error_description"]) == (400, "JWT ID is used before.")


def test_a_token_is_renewed_before_it_ends(client: Site, loaded: ManagementNode) -> None:
    loaded.oauth2.lifetime, loaded.max_limit = 1, 4
    slow = faults.before(lambda request: time.sleep(0.1))  # the token is looked at late
    loaded.faults.add(slow, on="participant", times=None, when=lambda request: "offset" in request.query)
    collects_all(client, loaded)
    tokens, others = statuses(loaded)
    assert 2 <= len(tokens) <= 6, "a few: not one for each request"
    assert set(others) == {200}, "no request met a token that had ended"
    assert len(loaded.oauth2.used) == len(tokens), "a jti for each"


def test_a_token_that_ends_earlier_than_the_node_said_costs_one_more_try(client: Site, loaded: ManagementNode) -> None:
    loaded.oauth2.lifetime, loaded.max_limit = 1, 4
    loaded.faults.add(faults.edited(lambda answer: answer.pop("expires_in")), times=None, when=for_a_token)
    loaded.faults.add(faults.hang(0.1), on="participant", times=None, when=lambda r: "offset" in r.query)
    collects_all(client, loaded)
    tokens, others = statuses(loaded)
    assert len(tokens) == 1 + others.count(401) > 1
    assert all(status == 200 for before, status in pairwise(others) if before == 401)


def test_a_token_that_is_never_taken_is_renewed_once_and_no_more(client: Site, loaded: ManagementNode) -> None:
    loaded.faults.add(faults.status(401), times=None, when=lambda r: not for_a_token(r))
    message = fails(client)
    assert statuses(loaded) == ([200, 200], [401, 401])
    assert f"answered 401: the token that OAuth2 client {CLIENT} was just given was rejected" in message


def test_a_clock_that_is_hours_off_or_set_later_on_is_made_up_for(loaded: ManagementNode, pem: bytes) -> None:
    way = way_in(loaded, pem)
    asked = 0
    for hours, tries in ((-0.2, 1), (2, 2), (2, 1), (-2, 2), (0, 2), (0.002, 1)):
        with travel(MORNING + timedelta(hours=hours)):
            way.refused()
            way.header()
        asked += tries
        assert len(loaded.requests) == asked, hours


def test_a_clock_that_never_stands_is_followed_once(loaded: ManagementNode, pem: bytes) -> None:
    def leap(request: Request) -> None:
        loaded.now += timedelta(hours=3)

    loaded.faults.add(faults.before(leap), times=9)
    refusal(loaded, pem)
    assert statuses(loaded)[0] == [400, 400]


def test_a_clock_set_in_a_run_ends_no_token_early_or_late(client: Site, loaded: ManagementNode, pem: bytes) -> None:
    with travel(MORNING + timedelta(days=300)) as clock:
        way = way_in(loaded, pem)
        loaded.now = MORNING + timedelta(days=300)
        first = way.header()
        clock.move_to(MORNING + timedelta(days=600))
        assert way.header() == first
        assert way.describe() == f"OAuth2 client {CLIENT}, token valid for 3600 s"


def test_key_and_token_are_in_no_file_no_log_and_no_process_list(client: Site, loaded: ManagementNode) -> None:
    loaded.faults.add(faults.hang(0.5), on="participant", nth=2)
    process = client.start("collect", env={"DATA_LOG_LEVEL": "DEBUG"})
    while len(loaded.requests) < 4 and process.poll() is None:
        time.sleep(0.01)
    shown = [Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    output = "".join(process.communicate(timeout=30))
    assert process.returncode == 0, output
    client.moment = MORNING + timedelta(minutes=10)
    said = client("check").output
    assert f"ok   credentials: OAuth2 client {CLIENT}, token valid for 3600 s; may read the history" in said
    assert statuses(loaded)[0] == [200, 400, 200], "a clock that is off costs one more request"
    output += said
    key_file = Path(client.env[KEYS[1]])
    lines = key_file.read_bytes().splitlines()[1:-1]
    asked = [parse_qs(r.body.decode())["client_assertion"][0].encode() for r in loaded.requests if for_a_token(r)]
    assert len(asked) == 3
    secrets = [*lines, *asked, *(token.encode() for token in loaded.oauth2.tokens)]
    files = [file for file in client.data.parent.rglob("*") if file.is_file() and file != key_file]
    for text in (*shown, output.encode(), *(file.read_bytes() for file in files)):
        assert not any(secret in text for secret in secrets)
    assert b"ledger" in b"".join(str(file).encode() for file in files), "the ledger was looked at"
    assert key_file.name.encode() in shown[1], "and the environment was"


# Refusals


def test_another_name_for_the_node_is_refused_until_the_audience_is_set(client: Site, loaded: ManagementNode) -> None:
    loaded.oauth2.audience = "https://mgr.internal/oauth/token/"
    message = fails(client)
    assert "answered 400 (invalid_client: Invalid claim: 'aud'): DEFAULT_MGR_TOKEN_AUDIENCE: the node knows" in message
    assert token_url(loaded.address) in message
    assert statuses(loaded) == ([400], [])
    client.env["DEFAULT_MGR_TOKEN_AUDIENCE"] = "mgr.internal"
    collects_all(client, loaded)
    assert statuses(loaded)[0] == [400, 200]


def test_a_node_that_goes_by_its_name_alone_or_by_another_url_is_met(loaded: ManagementNode, pem: bytes) -> None:
    for audience, expected, tries in (
        ("Mgr.internal", "Mgr.internal", [400, 200, 200]),
        ("mgr.internal", "https://mgr.internal/oauth/token/", [200, 200]),
        ("http://mgr:8080/oauth/token/", "http://mgr:8080/oauth/token/", [200, 200]),
        ("mgr.internal", "https://other/oauth/token/", [400, 400]),
    ):
        loaded.server.forget_requests()
        loaded.oauth2.audience = expected
        way = way_in(loaded, pem, audience)
        with travel(MORNING), suppress(NodeError):
            for _ in range(2):
                way.refused()
                way.header()
        assert statuses(loaded)[0] == tries


def test_a_claim_that_is_not_named_is_the_audience_where_the_clocks_agree(loaded: ManagementNode, pem: bytes) -> None:
    said = '{"error": "invalid_client", "error_description": "invalid_claim"}'
    loaded.faults.add(faults.status(401, body=said), times=None)
    assert "(invalid_client: invalid_claim): DEFAULT_MGR_TOKEN_AUDIENCE: the node knows" not in str(
        refusal(loaded, pem)
    ), "a fault's answer has no Date"
    loaded.faults.clear()
    loaded.oauth2.audience = "mgr.internal"
    edit = faults.edited(lambda answer: answer.update(error_description="invalid_claim"))
    loaded.faults.add(edit, times=None)
    assert "(invalid_client: invalid_claim): DEFAULT_MGR_TOKEN_AUDIENCE: the node knows" in str(refusal(loaded, pem))


def test_a_client_revoked_during_a_run_ends_it_with_its_name(client: Site, loaded: ManagementNode) -> None:
    loaded.faults.add(faults.before(lambda request: loaded.oauth2.revoke(CLIENT)), on="participant", nth=2)
    message = fails(client)
    assert f"(1) DEFAULT_MGR_CLIENT_ID: is client {CLIENT} among Users & Devices > OAuth2 Clients, or" in message
    assert statuses(loaded)[0] == [200, 400]


MAY_NOT = f"{NAMED} may not read the history; give it a role that may use the API"


@pytest.mark.parametrize(
    ("fault", "says", "wait"),
    [
        (faults.status(404), "404: no OAuth2 there; does the node have Users & Devices > OAuth2 Clients", None),
        (faults.status(403), f"answered 403: {MAY_NOT}", None),
        (faults.status(400, body='{"error": "unauthorized_client"}'), f": {MAY_NOT}", None),
        (faults.status(400, body="<h1>Bad"), "400: the client is not accepted. (1) DEFAULT_MGR_CLIENT", None),
        (faults.status(418), "answered 418, which a Management Node never does; is DEFAULT_MGR_ADDRESS", None),
        (faults.redirect("https://elsewhere/\x1b[2J"), "to https://elsewhere/\\x1b[2J: it is not followed", None),
        (faults.status(200, body="{}"), "answered JSON without a token", None),
        (faults.status(200, body='{"access_token": "a\\r\\nHost: b"}'), "answered JSON without a token", None),
        (faults.status(200, body='{"access_token": "a", "token_type": "mac"}'), "no Bearer token", None),
        (faults.status(401, body='{"error": "x", "error_description": "eyJabc.def \\u202e"}'), "...", None),
        (faults.status(503, retry_after=7), "(oauth/token/) answered 503: the node has a problem of its own", 7),
        (faults.status(429), "answered 429", BUSY_WAIT),
        (faults.html(), "answered text/html; charset=utf-8 instead of JSON", 0),
    ],
)
def test_what_a_node_may_answer_instead_of_a_token_is_said_with_its_fix_and_repeated_where_it_may_pass(
    loaded: ManagementNode, pem: bytes, fault: faults.Fault, says: str, wait: float | None
) -> None:
    loaded.faults.add(fault, times=2)
    error = refusal(loaded, pem)
    assert says in str(error)
    assert (error.retry_after if isinstance(error, Passing) else None) == wait


def test_a_token_lives_as_long_as_the_node_says_and_an_hour_where_it_says_nothing(
    loaded: ManagementNode, pem: bytes
) -> None:
    for said, seconds in (("7200", 7200), (90.5, 90), (None, 3600), (0, 3600), (-1, 3600), ("soon", 3600), ([], 3600)):
        loaded.faults.add(faults.edited(lambda answer, said=said: answer.update(expires_in=said)))
        way = way_in(loaded, pem)
        with travel(MORNING):
            way.header()
        assert way.describe() == f"OAuth2 client {CLIENT}, token valid for {seconds} s"


def test_a_request_for_a_token_follows_no_redirect(client: Site, loaded: ManagementNode) -> None:
    loaded.faults.add(faults.redirect(f"{loaded.url}/elsewhere/", 307), when=for_a_token)
    assert f"a redirect to {loaded.url}/elsewhere/: it is not followed" in fails(client)
    assert [request.path for request in loaded.requests] == ["/oauth/token/"]


def test_a_passing_fault_of_the_token_is_repeated_with_another_jti(client: Site, loaded: ManagementNode) -> None:
    loaded.faults.add(faults.status(503), when=for_a_token)
    collects_all(client, loaded)
    assert statuses(loaded)[0] == [503, 200]
    assert len({r.body for r in loaded.requests if for_a_token(r)}) == 2


def test_a_role_without_the_api_is_said(loaded: ManagementNode, pem: bytes) -> None:
    loaded.oauth2.clients[CLIENT].scope = "is_admin"
    message = str(refusal(loaded, pem, audience=loaded.address))
    assert statuses(loaded)[0] == [400], "another name would not help"
    assert "answered 400 (invalid_scope: The requested scope is" in message
    assert f"{NAMED} may not read the history; give it a role that may use the API" in message


def test_clocks_apart_are_the_cause_that_is_named(loaded: ManagementNode, pem: bytes) -> None:
    loaded.tells_time, loaded.now = False, MORNING + timedelta(hours=5)
    assert "the node's clock is off this machine's, and the node does not tell its time; set" in str(
        refusal(loaded, pem)
    )
    loaded.tells_time, loaded.now = True, MORNING + timedelta(days=500)
    assert "the node's clock is 12000 hours off this machine's; set them alike (NTP)" in str(refusal(loaded, pem))


def test_the_token_url_is_as_the_node_reads_its_own_address() -> None:
    assert token_url("MGR.example.com:443") == "https://mgr.example.com/oauth/token/"
    assert token_url("[2001:DB8::1]:8443") == "https://[2001:db8::1]:8443/oauth/token/"


@pytest.mark.parametrize("offered", [{}, {"WWW-Authenticate": "Bearer"}])
def test_a_refused_password_points_to_the_other_way_in(offered: dict[str, str]) -> None:
    said = Basic("admin", b"secret").refusal(401, offered)
    assert "give the collector an OAuth2 client: DEFAULT_MGR_CLIENT_ID, see docs/oauth2.md" in said
    assert said.startswith(
        "the node accepts no password" if "Bearer" in str(offered) else "wrong name or password; check"
    )
    assert Basic("å", b"\xff:").header() == "Basic w6U6/zo="
