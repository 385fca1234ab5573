"""The double is what history-api.md says of a management node. What it does wrong on purpose, the tests need."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.harness import ROOT
from tests.management_node import ManagementNode, calls, conference, media_stream, participant

DAY = date(2026, 11, 23)
NEXT_DAY = datetime(2026, 11, 24)
API = "/api/admin/history/v1/"
CALLS = list(calls(seed=3, day=DAY, conferences=30))


class Client(requests.Session):
    """Asks as a collector does, and takes nothing from the environment."""

    def __init__(self, address: str, secret: str, ca_file: Path) -> None:
        super().__init__()
        self.trust_env, self.auth, self.verify, self.address = False, ("admin", secret), str(ca_file), address

    def ask(self, path: str, **query: str | int) -> requests.Response:
        url = f"https://{self.address}{path if path.startswith('/') else API + path}"
        return self.get(url, params=query, timeout=10)

    def all(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        found, page = [], self.ask(path, **query).json()
        found += page["objects"]
        while page["meta"]["next"]:
            page = self.ask(page["meta"]["next"]).json()
            found += page["objects"]
        return found

    def ids(self, path: str, **query: str | int) -> set[str]:
        return {record["id"] for record in self.all(path, **query)}


@pytest.fixture
def client(node: ManagementNode) -> Iterator[Client]:
    node.now = NEXT_DAY
    with Client(node.address, node.secret, node.ca_file) as client:
        yield client


def by_id(records: Any) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: str(record["id"]))


@pytest.mark.parametrize("max_limit", [7, 1000])
def test_every_record_comes_as_it_was_added_whatever_the_largest_page(
    node: ManagementNode, client: Client, max_limit: int
) -> None:
    node.max_limit = max_limit
    node.load(CALLS)
    only_in_detail = {"bucketed_call_quality", "historic_call_quality"}
    people = [one for _, present in CALLS for one in present]
    listed = [{key: value for key, value in one.items() if key not in only_in_detail} for one in people]
    assert by_id(client.all("conference/", limit=5000)) == by_id(held for held, _ in CALLS)
    assert by_id(client.all("participant/", limit=5000)) == by_id(listed)
    assert client.ask(people[0]["resource_uri"]).json() == people[0]


@pytest.mark.parametrize("limit", [5000, 0])
def test_a_limit_beyond_the_maximum_is_clamped_without_a_word(node: ManagementNode, client: Client, limit: int) -> None:
    node.max_limit = 7
    node.load(CALLS)
    following = f"{API}conference/?limit=7&offset=7"
    meta = {"limit": 7, "next": following, "offset": 0, "previous": None, "total_count": 30}
    assert client.ask("conference/", limit=limit).json()["meta"] == meta


def test_keys_come_in_alphabetical_order_and_times_without_a_zero_fraction(
    node: ManagementNode, client: Client
) -> None:
    held = conference(end_time="2026-11-23T08:59:31", start_time="2026-11-23T08:00:00.500000")
    left = participant(held)
    stream = media_stream(left)
    node.add([held], [left])
    [found] = client.all("participant/")
    assert (list(found), found["end_time"]) == (sorted(found), "2026-11-23T08:59:31")
    assert (found["media_streams"], found["conference"]) == ([stream], held["resource_uri"])
    assert client.all("conference/")[0]["participants"] == [left["resource_uri"]]


def test_end_time_and_conference_filter_half_open(node: ManagementNode, client: Client) -> None:
    node.load([*calls(seed=3, day=DAY - timedelta(days=1), conferences=30), *CALLS])
    of_the_day = {"end_time__gte": "2026-11-23T00:00:00", "end_time__lt": "2026-11-24T00:00:00"}
    assert client.ids("conference/", **of_the_day) == {held["id"] for held, _ in CALLS}
    held, present = CALLS[5]
    assert client.ids("participant/", conference=held["id"]) == {one["id"] for one in present}


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
    answer = client.ask(f"participant/?{query}")
    assert answer.status_code == 400
    assert says in answer.json()["error"]


def test_order_by_orders(node: ManagementNode, client: Client) -> None:
    node.load(CALLS)
    ends = [record["end_time"] for record in client.all("conference/", order_by="-end_time")]
    assert ends == sorted(ends, reverse=True)


def test_only_the_administrator_gets_in_and_nobody_writes(node: ManagementNode, client: Client) -> None:
    assert client.post(f"https://{node.address}{API}conference/", json={}, timeout=10).status_code == 405
    client.auth = ("admin", "wrong")
    answer = client.ask("conference/")
    assert (answer.status_code, node.requests[-1].status) == (401, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert node.requests[-1].headers["Authorization"] == "Basic YWRtaW46d3Jvbmc="


def test_schema_names_every_field(client: Client) -> None:
    held = conference()
    for name, record in (("conference", held), ("participant", participant(held))):
        assert client.ask(f"{name}/schema/").json()["fields"].keys() == record.keys()


def test_records_appear_when_their_time_has_come(node: ManagementNode, client: Client) -> None:
    held = conference(end_time="2026-11-23T12:00:00")
    early = participant(held, end_time="2026-11-21T12:00:00")
    node.add([held], [early])
    for moment, ended in (
        (datetime(2026, 11, 23, 11, 59, 59, 999_999), set()),
        (datetime(2026, 11, 23, 12), {held["id"]}),
    ):
        node.now = moment
        assert (client.ids("conference/"), client.ids("participant/")) == (ended, {early["id"]})


def test_fields_come_and_go_with_releases(node: ManagementNode, client: Client) -> None:
    node.add([conference(), conference()])
    node.extra_fields, node.dropped_fields = {"conference": {"moderated": True}}, {"conference": ["duration"]}
    first, second = client.all("conference/")
    assert list(first) == list(second) == sorted(conference().keys() - {"duration"} | {"moderated"})


def test_a_day_of_calls_is_the_same_for_a_seed_and_has_the_edges() -> None:
    assert list(calls(seed=3, day=DAY, conferences=30)) == CALLS != list(calls(seed=2, day=DAY, conferences=30))
    ends = [held["end_time"] for held, _ in CALLS]
    assert (min(ends), max(ends)) == ("2026-11-23T00:00:00", "2026-11-23T23:59:59.999999")
    assert [one for _, present in CALLS for one in present if one["end_time"] < min(ends)], "left days before"
    for held, present in CALLS:
        assert held["participants"] == [one["resource_uri"] for one in present]
        assert all(one["end_time"] <= held["end_time"] for one in present)


def test_it_runs_as_a_program_in_which_calls_keep_ending(tmp_path: Path) -> None:
    options = f"--tls {tmp_path}/tls --calls 2026-11-23 --live 0.05"
    command = [sys.executable, "-m", "tests.management_node", *options.split()]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        try:
            client = Client(program.stdout.readline().strip(), ManagementNode.secret, tmp_path / "tls" / "ca.pem")
            while client.ask("conference/").json()["meta"]["total_count"] <= 300:
                pass
        finally:
            program.terminate()
    assert program.returncode == 0
