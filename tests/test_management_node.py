"""The double is what history-api.md says of a management node, and goes wrong as it is told."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.management_node import (
    ManagementNode,
    calls,
    certificates,
    conference,
    faults,
    media_stream,
    participant,
)

DAY = date(2026, 11, 23)
NEXT_DAY = datetime(2026, 11, 24)
API = "/api/admin/history/v1/"
MICROSECOND = timedelta(microseconds=1)


class Client:
    """Asks as a collector does, and takes nothing from the environment."""

    def __init__(self, node: ManagementNode) -> None:
        self.node = node
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.auth = (node.username, node.secret)
        self.session.verify = str(node.ca_file)

    def get(self, path: str, **query: str | int) -> requests.Response:
        target = path if path.startswith("/") else API + path
        url = self.node.url + target
        return self.session.get(url, params=query, timeout=10, allow_redirects=False)

    def pages(self, path: str, **query: str | int) -> Iterator[dict[str, Any]]:
        page = self.get(path, **query).json()
        yield page
        while page["meta"]["next"]:
            page = self.get(page["meta"]["next"]).json()
            yield page

    def all(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        return [record for page in self.pages(path, **query) for record in page["objects"]]

    def ids(self, path: str, **query: str | int) -> list[str]:
        return [record["id"] for record in self.all(path, **query)]


@pytest.fixture
def client(node: ManagementNode) -> Iterator[Client]:
    node.now = NEXT_DAY
    client = Client(node)
    with client.session:
        yield client


@pytest.mark.parametrize("max_limit", [7, 20, 1000])
def test_every_record_comes_as_it_was_added_whatever_the_largest_page(
    node: ManagementNode, client: Client, max_limit: int
) -> None:
    node.max_limit = max_limit
    day = list(calls(seed=3, day=DAY, conferences=40))
    node.load(day)
    only_in_detail = {"bucketed_call_quality", "historic_call_quality"}
    assert sorted(client.all("conference/", limit=5000), key=_id) == sorted((held for held, _ in day), key=_id)
    assert sorted(client.all("participant/", limit=5000), key=_id) == sorted(
        (
            {key: value for key, value in one.items() if key not in only_in_detail}
            for _, present in day
            for one in present
        ),
        key=_id,
    )
    one = day[0][1][0]
    assert client.get(one["resource_uri"]).json() == one


def test_a_limit_beyond_the_maximum_is_clamped_without_a_word(node: ManagementNode, client: Client) -> None:
    node.max_limit = 7
    node.load(calls(seed=3, day=DAY, conferences=20))
    for limit in (5000, 0):
        meta = client.get("conference/", limit=limit).json()["meta"]
        assert meta == {
            "limit": 7,
            "next": f"{API}conference/?limit=7&offset=7",
            "offset": 0,
            "previous": None,
            "total_count": 20,
        }


def test_keys_come_in_alphabetical_order_and_times_without_a_zero_fraction(
    node: ManagementNode, client: Client
) -> None:
    held = conference(end_time="2026-11-23T08:59:31", start_time="2026-11-23T08:00:00.500000")
    left = participant(held)
    stream = media_stream(left)
    node.add([held], [left])
    text = client.get("participant/").text
    found = json.loads(text)["objects"][0]
    assert (list(found), found["end_time"]) == (sorted(found), "2026-11-23T08:59:31")
    assert found["media_streams"] == [stream]
    assert found["conference"] == held["resource_uri"]
    assert client.get("conference/").json()["objects"][0]["participants"] == [left["resource_uri"]]


def test_end_time_and_conference_filter_half_open(node: ManagementNode, client: Client) -> None:
    day = list(calls(seed=3, day=DAY, conferences=30))
    before = list(calls(seed=3, day=DAY - timedelta(days=1), conferences=30))
    node.load([*before, *day])
    found = client.ids("conference/", end_time__gte="2026-11-23T00:00:00", end_time__lt="2026-11-24T00:00:00")
    assert sorted(found) == sorted(held["id"] for held, _ in day)
    held, present = day[5]
    assert sorted(client.ids("participant/", conference=held["id"])) == sorted(map(_id, present))


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("bogus=1", "The 'bogus' field does not allow filtering."),
        ("media_streams=1", "The 'media_streams' field does not allow filtering."),
        ("end_time__gte=soon", "invalid format"),
        ("limit=-1", "Invalid limit '-1'"),
        ("order_by=duration", "The 'duration' field does not allow ordering."),
    ],
)
def test_a_query_it_does_not_know_answers_400(client: Client, query: str, says: str) -> None:
    answer = client.get(f"participant/?{query}")
    assert answer.status_code == 400
    assert says in answer.json()["error"]


def test_order_by_works_until_the_node_forbids_it(node: ManagementNode, client: Client) -> None:
    node.load(calls(seed=3, day=DAY, conferences=20))
    ends = [record["end_time"] for record in client.all("conference/", order_by="-end_time")]
    assert ends == sorted(ends, reverse=True)
    node.ordering = ()
    answer = client.get("conference/", order_by="end_time")
    assert answer.status_code == 400
    assert answer.json() == {"error": "The 'end_time' field does not allow ordering."}


def test_only_the_administrator_gets_in_and_the_log_shows_with_what(node: ManagementNode, client: Client) -> None:
    client.session.auth = ("admin", "wrong")
    answer = client.get("conference/")
    assert (answer.status_code, node.requests[-1].status) == (401, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert node.requests[-1].headers["Authorization"] == "Basic YWRtaW46d3Jvbmc="


def test_it_cannot_be_written_to(client: Client) -> None:
    url = f"{client.node.url}{API}conference/"
    assert client.session.post(url, json={}, timeout=10).status_code == 405


def test_schema_names_every_field(node: ManagementNode, client: Client) -> None:
    held = conference()
    assert client.get("conference/schema/").json()["fields"].keys() == held.keys()
    fields = client.get("participant/schema/").json()["fields"]
    assert fields.keys() == participant(held).keys()


def test_records_appear_when_their_time_has_come(node: ManagementNode, client: Client) -> None:
    held = conference(end_time="2026-11-23T12:00:00")
    early = participant(held, end_time="2026-11-21T12:00:00")
    node.add([held], [early])
    node.now = datetime(2026, 11, 23, 12) - MICROSECOND
    assert (client.ids("conference/"), client.ids("participant/")) == ([], [early["id"]])
    node.now += MICROSECOND
    assert (client.ids("conference/"), client.ids("participant/")) == ([held["id"]], [early["id"]])
    node.hidden = {early["id"]}
    assert client.ids("participant/") == []


def test_fields_come_and_go_with_releases_and_with_records(node: ManagementNode, client: Client) -> None:
    lacking = conference(name="lacks its tag", colour="blue")
    del lacking["tag"]
    node.add([lacking, conference()])
    node.extra_fields = {"conference": {"moderated": True}}
    node.dropped_fields = {"conference": ["duration"]}
    first, second = sorted(client.all("conference/"), key=lambda one: "tag" in one)
    assert list(first) == sorted(first)
    assert first.keys() == lacking.keys() - {"duration"} | {"moderated"}
    assert second.keys() == first.keys() - {"colour"} | {"tag"}
    node.shuffled_fields = True
    first, second = client.all("conference/")
    assert [key for key in first if key in second] != [key for key in second if key in first]


def test_clear_leaves_it_as_it_was_made() -> None:
    with ManagementNode(max_limit=20, tls=False) as node:
        node.load(calls(seed=3, day=DAY, conferences=20))
        node.max_limit, node.now = 7, NEXT_DAY
        node.faults.add(faults.status(503), times=None)
        Client(node).get("conference/")
        node.clear()
        assert (node.max_limit, node.now, node.requests) == (20, None, [])
        assert Client(node).all("conference/") == []


def test_two_nodes_share_nothing(node: ManagementNode, client: Client) -> None:
    with ManagementNode(secret="another", now=NEXT_DAY) as other:
        other.add([conference()])
        assert len(Client(other).all("conference/")) == 1
        assert client.all("conference/") == []


def test_connections_are_kept(node: ManagementNode, client: Client) -> None:
    for _ in range(3):
        client.get("conference/")
    assert (node.connections, node.peak, len(node.requests)) == (1, 1, 3)


def test_statuses_queue_up_and_then_it_answers_again(node: ManagementNode, client: Client) -> None:
    node.faults.add(faults.status(429, retry_after=7), on="participant")
    node.faults.add(faults.html(502, "<h1>Bad gateway</h1>"), on="participant", times=2)
    assert client.get("conference/").status_code == 200
    assert client.get("participant/").headers["Retry-After"] == "7"
    assert [client.get("participant/").status_code for _ in range(3)] == [502, 502, 200]
    assert not node.faults.waiting


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.reset(), requests.ConnectionError),
        (faults.cut(0.5), requests.RequestException),
        (faults.cut(0.5, chunked=True), requests.exceptions.ChunkedEncodingError),
        (faults.hang(60), requests.exceptions.ReadTimeout),
    ],
)
def test_the_nth_request_breaks_and_the_next_is_answered(
    fault: faults.Fault, error: type[Exception], tls: bool
) -> None:
    with ManagementNode(tls=tls, now=NEXT_DAY) as node:
        node.load(calls(seed=3, day=DAY, conferences=20))
        node.faults.add(fault, nth=2)
        client = Client(node)
        url = f"{node.url}{API}conference/"
        assert client.session.get(url, timeout=1).status_code == 200
        with pytest.raises(error):
            client.session.get(url, timeout=0.3)
        assert client.session.get(url, timeout=1).status_code == 200


def test_a_reset_is_a_reset() -> None:
    with ManagementNode(tls=False) as node:
        node.faults.add(faults.reset())
        with socket.create_connection(("127.0.0.1", node.port)) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\nHost: mgr\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                raw.recv(1)


def test_answers_lie_as_they_are_told(node: ManagementNode, client: Client) -> None:
    node.load(calls(seed=3, day=DAY, conferences=30))
    for fault in (
        faults.next_at("https://other.example.com"),
        faults.counted(+1),
        faults.short(2),
        faults.not_the_envelope(["a", "list"]),
        faults.truncated(),
        faults.redirect("https://127.0.0.1:1/elsewhere/"),
    ):
        node.faults.add(fault)
    following = client.get("conference/").json()["meta"]["next"]
    assert following == f"https://other.example.com{API}conference/?limit=20&offset=20"
    assert client.get("conference/").json()["meta"]["total_count"] == 31
    answer = client.get("conference/").json()
    assert (len(answer["objects"]), answer["meta"]["next"]) == (18, None)
    assert client.get("conference/").json() == ["a", "list"]
    with pytest.raises(requests.exceptions.JSONDecodeError):
        client.get("conference/").json()
    answer_headers = client.get("conference/").headers
    assert answer_headers["Location"] == "https://127.0.0.1:1/elsewhere/"


@pytest.mark.parametrize("make", [certificates.expired, certificates.wrong_name])
def test_a_bad_certificate_is_refused_by_a_client_that_verifies(node: ManagementNode, make: Any) -> None:
    assert Client(node).get("conference/").status_code == 200
    node.certificate = make()
    with pytest.raises(requests.exceptions.SSLError):
        Client(node).get("conference/")


def test_a_self_signed_certificate_is_its_own_authority(node: ManagementNode) -> None:
    certificate = node.certificate = certificates.self_signed()
    with pytest.raises(requests.exceptions.SSLError):
        Client(node).get("conference/")
    node.ca_file.write_bytes(certificate.ca)
    assert Client(node).get("conference/").status_code == 200


def test_a_day_of_calls_is_the_same_for_a_seed_and_has_the_edges() -> None:
    day = list(calls(seed=1, day=DAY))
    assert day == list(calls(seed=1, day=DAY))
    assert day != list(calls(seed=2, day=DAY))
    ends = [held["end_time"] for held, _ in day]
    assert (min(ends), max(ends)) == ("2026-11-23T00:00:00", "2026-11-23T23:59:59.999999")
    left_days_before = [one for held, present in day for one in present if one["end_time"] < min(ends)]
    assert left_days_before
    assert all(
        held["participants"] == [one["resource_uri"] for one in present]
        and all(one["end_time"] <= held["end_time"] for one in present)
        for held, present in day
    )


def test_it_runs_as_a_program_from_a_copy_of_its_folder(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "management_node", tmp_path / "management_node")
    options = "--tls tls --secret s3cret --calls 2026-11-23 --conferences 30 --max-limit 20"
    command = [sys.executable, "-m", "management_node", *options.split(), "--live", "0.2"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        try:
            address = program.stdout.readline().strip()
            session = requests.Session()
            session.trust_env = False
            session.verify = str(tmp_path / "tls" / "ca.pem")
            session.auth = ("admin", "s3cret")
            deadline = time.monotonic() + 10
            meta = {"total_count": 0}
            while meta["total_count"] <= 30 and time.monotonic() < deadline:
                url = f"https://{address}{API}conference/?limit=100"
                meta = session.get(url, timeout=10).json()["meta"]
            assert (meta["limit"], meta["total_count"] > 30) == (20, True)
        finally:
            program.terminate()
            rest = program.stdout.read()
    assert (program.returncode, rest) == (0, "")


def _id(record: dict[str, Any]) -> str:
    return str(record["id"])
