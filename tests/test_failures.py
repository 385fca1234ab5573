"""What goes wrong between the collector and the node: what is done about it, and what is said.

Whatever happens: the exit code tells, no data file is touched, one line says what to do, the node
is asked one thing at a time, and the password is nowhere.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.forked import Outcome
from tests.harness import CONF, DAY, HOUR, MIDNIGHT, MINUTE, Site
from tests.management_node import ManagementNode, certificates, conference, faults
from tests.management_node.faults import Answer
from tests.management_node.server import Reply, Request

GZIP = {"Content-Encoding": "gzip"}


class Scene(Site):
    """A node with two days of calls in pages of 20, a folder with one good run, and a second run to come."""

    slept = 0.0

    def collect(self, **constants: float) -> Outcome:
        """Waiting takes no time in it."""
        outcome = self("collect", hurry=True, constants=constants)
        self.slept = outcome.slept
        self.is_decent(outcome)
        return outcome

    def fails(self, **constants: float) -> str:
        """The second run fails as promised; what its one line of error says after the level."""
        before = self.files()
        outcome = self.collect(**constants)
        assert outcome.code == 1
        assert self.files() == before, "data files untouched"
        left = {path.name for path in (self.data / ".collector").iterdir()}
        assert left == {"lock", "ledger.sqlite"}, "what it had read is not left lying"
        (error,) = (line for line in outcome.stderr.splitlines() if " ERROR " in line)
        assert outcome.stdout == ""
        assert error in self.log().splitlines(), "the log has the same line"
        return error.partition(" ERROR ")[2]

    def recovers(self) -> str:
        """The second run gets everything nevertheless; what it logged."""
        outcome = self.collect()
        assert outcome.code == 0, outcome.output
        assert not self.node.faults.waiting, "the fault did happen"
        self.check()
        return outcome.stderr

    def is_decent(self, outcome: Outcome) -> None:
        assert not re.search("Traceback|Warning:", outcome.output), "what is expected to go wrong has no stack to show"
        assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ \S", x) for x in outcome.stderr.splitlines())
        assert self.node.server.peak <= 1, "one request at a time"
        secret = self.env["DEFAULT_MGR_SECRET"].encode()
        texts = [outcome.output.encode(errors="surrogateescape")]
        texts += [file.read_bytes() for file in self.data.rglob("*") if file.is_file()]
        assert not any(form in text for form in (secret, base64.b64encode(b"admin:" + secret)) for text in texts)


@pytest.fixture
def scene(site: Site) -> Iterator[Scene]:
    certificate = site.node.certificate
    site.node.page = 20
    site.hourly(24, MIDNIGHT - DAY, MINUTE, 5 * HOUR)
    site.hourly(12, MIDNIGHT, MINUTE, 2 * MINUTE, 3 * MINUTE)
    site.run(MIDNIGHT + MINUTE)
    site.at(MIDNIGHT + 13 * HOUR)
    site.node.server.forget_requests()
    yield Scene(site.data, site.env, site.node, site.forked, site.moment)
    site.node.certificate = certificate


def next_is(text: str) -> faults.Fault:
    return faults.edited(lambda document: document["meta"].update(next=text))


# What no second attempt fixes: one request, one line


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (faults.status(401), "answered 401: wrong name or password; check DEFAULT_MGR_USERNAME (admin)"),
        (faults.status(403), "answered 403: DEFAULT_MGR_USERNAME (admin) may not read the history; give"),
        (faults.status(404), "answered 404: there is no History API; is DEFAULT_MGR_ADDRESS a Management"),
        (faults.status(418), "answered 418"),
        (faults.redirect("https://elsewhere.example.com/x"), "a redirect to https://elsewhere.example.com/x"),
        (faults.not_the_envelope(), "JSON that is not the History API's"),
        (faults.not_the_envelope({"meta": {}, "objects": []}), "JSON that is not the History API's"),
        (faults.not_the_envelope({"meta": {"total_count": 1}, "objects": [{"name": "x"}]}), "without an id"),
        (faults.next_at("https://elsewhere.example.com"), "elsewhere (https://elsewhere.example.com/"),
        (faults.next_at("http://127.0.0.1:80"), "elsewhere (http://127.0.0.1:80/"),
        (faults.next_at("//elsewhere.example.com"), "elsewhere"),
        (faults.next_at("http://["), "next page"),
        (lambda request, answer: next_is(request.target)(request, answer), "names a next page that never comes"),
        *[(next_is(text), "names a next page that never comes") for text in (f"/{'x' * 8000}", "/\x1b", "/ö")],
        (faults.short(), "counts"),
        (faults.counted(3), "counts"),
    ],
)
def test_what_no_second_attempt_fixes_is_asked_once_and_reported(scene: Scene, fault: Any, says: str) -> None:
    scene.node.faults.add(fault, times=None)
    message = scene.fails()
    assert says in message
    assert re.search("DEFAULT_MGR_|ask Pexip's support|check whether", message), "it says what to look at"
    targets = [request.target for request in scene.node.requests]
    assert targets.count(targets[-1]) == 1
    assert len(targets) <= 2, "the small request may have gone well"


UNKNOWN_HOST = "no-such-host.invalid: the name is not known; check DEFAULT_MGR_ADDRESS and the container's DNS"


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SECRET", "not sesame", "check DEFAULT_MGR_USERNAME (admin) and DEFAULT_MGR_SECRET"),
        ("SECRET", '"sesame, open"', "quote"),  # which an .env file keeps
        ("ADDRESS", "no-such-host.invalid", UNKNOWN_HOST),
        ("ADDRESS", "127.0.0.1:9", "127.0.0.1:9: the connection was refused; check DEFAULT_MGR_ADDRESS"),
        ("USERNAME", os.fsdecode(b"k\xe5re"), "answered 401"),
    ],
)
def test_a_setting_that_is_wrong_is_named_and_a_password_sent_once_so_that_no_account_is_locked(
    scene: Scene, name: str, value: str, says: str, level: str
) -> None:
    scene.env |= {f"DEFAULT_MGR_{name}": value, "DATA_LOG_LEVEL": level}
    assert says in scene.fails()
    assert len(scene.node.requests) <= 1


@pytest.mark.parametrize("leads", [faults.redirect, faults.next_at])
def test_nothing_is_sent_to_where_a_redirect_or_a_next_leads(scene: Scene, leads: Callable[[str], Any]) -> None:
    with ManagementNode(certificate=scene.node.certificate) as other:
        scene.node.faults.add(leads(other.url), times=None)
        scene.fails()
        assert (other.server.connections, other.requests) == (0, [])


def test_a_400_is_tried_without_order_and_then_said(scene: Scene) -> None:
    scene.node.faults.add(faults.status(400), times=None)
    assert "answered 400" in scene.fails()
    assert ["order_by" in request.query for request in scene.node.requests] == [True, False]


# The network and TLS


def test_a_port_that_speaks_plain_http_is_said_at_once_and_gets_no_password(scene: Scene) -> None:
    with ManagementNode(tls=False) as plain:
        scene.env["DEFAULT_MGR_ADDRESS"] = plain.address
        assert "that port does not use TLS; check the port in DEFAULT_MGR_ADDRESS" in scene.fails()
        assert plain.requests == []


@pytest.mark.parametrize(
    ("host", "certificate", "says", "first"),
    [
        ("127.0.0.1", certificates.self_signed, "self-signed certificate", "DEFAULT_MGR_CA_FILE=a PEM file with that"),
        ("127.0.0.1", certificates.expired, "expired", "renew the node's certificate"),
        ("127.0.0.1", certificates.wrong_name, "is not valid for '127.0.0.1'", "DEFAULT_MGR_ADDRESS=a name that the"),
        ("localhost", certificates.wrong_name, "Hostname mismatch", "DEFAULT_MGR_ADDRESS=a name that the"),
    ],
)
def test_a_certificate_that_does_not_verify_is_described_with_the_ways_on(
    scene: Scene, host: str, certificate: Callable[[], certificates.Certificate], says: str, first: str
) -> None:
    scene.node.certificate = certificate()
    scene.env["DEFAULT_MGR_ADDRESS"] = scene.node.address.replace("127.0.0.1", host)
    message = scene.fails()
    assert says in message
    assert f"(1) {first}" in message
    assert scene.node.certificate.fingerprint in message
    for word in ("subject", "issuer", "valid until"):
        assert word in message
    ways = [message.index(way) for way in ("(1)", "(2)", "(3)", "TLS_VERIFY=false")]
    assert ways == sorted(ways), "the unsafe one last"
    assert scene.node.requests == [], "no password before trust"


def test_nothing_of_the_environment_but_the_settings_says_whom_to_trust_or_how_to_come_there(
    scene: Scene, tmp_path: Path
) -> None:
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
    company = scene.env.pop("DEFAULT_MGR_CA_FILE")
    scene.env |= dict.fromkeys(names, company)
    assert "does not verify" in scene.fails()
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login admin password another\ndefault login admin password another\n")
    netrc.chmod(0o600)
    scene.env |= {"DEFAULT_MGR_CA_FILE": company, "NETRC": str(netrc), **dict.fromkeys(names, "/nowhere")}
    scene.env |= dict.fromkeys(("HTTPS_PROXY", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    scene.recovers()


def test_verification_that_is_off_warns_once_on_each_run(scene: Scene) -> None:
    scene.node.certificate = certificates.expired()
    del scene.env["DEFAULT_MGR_CA_FILE"]
    scene.env["DEFAULT_MGR_TLS_VERIFY"] = "false"
    (warning,) = (line for line in scene.recovers().splitlines() if " WARNING " in line)
    assert "DEFAULT_MGR_TLS_VERIFY=false" in warning


# What may be over in a moment: tried again, a few times.


PASSING: dict[str, tuple[faults.Fault, str]] = {
    "503": (faults.status(503), "answered 503"),
    "429 for a second": (faults.status(429, retry_after=1), "answered 429"),
    "503 until a far year": (faults.status(503, retry_after="Fri, 01 Jan 9000000000 00:00:00 GMT"), "answered 503"),
    "reset": (faults.reset(), "the connection broke"),
    "cut with a Content-Length": (faults.cut(), "cut short"),
    "cut in chunks": (faults.cut(chunked=True), "cut short"),
    "HTML instead of JSON": (faults.html(), "text/html; charset=utf-8 instead of JSON"),
    "truncated JSON": (faults.truncated(), "JSON"),
    "not the encoding that it says": (faults.status(200, body="{}", headers=GZIP), "the connection broke"),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_is_tried_again_until_it_is_over(scene: Scene, name: str) -> None:
    scene.node.faults.add(PASSING[name][0], on="participant", nth=2)
    (again,) = (line for line in scene.recovers().splitlines() if "trying again" in line)
    assert PASSING[name][1] in again


@pytest.mark.parametrize("name", ["503", "429 for a second", "reset", "HTML instead of JSON"])
def test_a_fault_that_does_not_pass_ends_the_run_after_a_few_tries(scene: Scene, name: str) -> None:
    scene.node.faults.add(PASSING[name][0], on="participant", nth=2, times=None)
    error = scene.fails()
    assert PASSING[name][1] in error
    assert "trying again" not in error
    targets = [request.target for request in scene.node.requests]
    assert targets.count(targets[-1]) == 5
    assert scene.log().count("trying again") == 4, "it does what it says"
    assert scene.slept > 1, "the node is given time"


def test_a_node_that_does_not_answer_is_given_up_and_said(scene: Scene) -> None:
    with ManagementNode(certificate=scene.node.certificate) as silent:
        silent.faults.add(faults.hang(30), times=None)
        scene.env["DEFAULT_MGR_ADDRESS"] = silent.address
        message = scene.fails(READ_TIMEOUT=0.3, ATTEMPTS=2)
        assert message.startswith(f"{silent.address}: no answer within 0 s")
        assert len(silent.requests) == 2


def test_retry_after_is_waited_for_and_not_longer_than_makes_sense(scene: Scene) -> None:
    scene.node.faults.add(faults.status(429, retry_after=120), on="participant")
    scene.recovers()
    assert 120 <= scene.slept < 121
    scene.node.requests.clear()
    scene.node.faults.add(faults.status(429, retry_after=3600), times=None)
    assert "3600 s" in scene.fails(), "it says how long the node wants it to wait"
    assert len(scene.node.requests) == 1
    scene.node.faults.clear()
    scene.node.requests.clear()
    scene.node.faults.add(faults.status(503, retry_after=30), times=None)
    scene.fails()
    assert len(scene.node.requests) == 3, "a minute of tries"


# Records that move


def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones_and_nothing_is_lost(
    node: ManagementNode, collector: Site
) -> None:
    held = [conference(end_time="2026-11-24T11:00:00", name="x" * 30_000, participants=[]) for _ in range(300)]
    node.add(held)
    collector.run(datetime(2026, 11, 24, 12))
    assert len(collector.rows(CONF)) == 300
    assert {request.query.get("limit") for request in node.requests} >= {"1000", "250", "25"}


def test_a_total_that_never_holds_still_costs_no_row_and_not_the_window(scene: Scene) -> None:
    for by in (0, 1) * 9:
        scene.node.faults.add(faults.counted(by), on="participant")
    scene.collect()
    assert {file["collected_to"] for file in scene.status()["files"]} == {"2026-11-24T13:00:00"}
    scene.node.faults.clear()
    scene.recovers()


def test_a_chain_of_pages_that_is_longer_than_its_count_is_left(scene: Scene) -> None:
    """Each names another one, so that none is the same as before."""
    pages = 0

    def endless(request: Request, answer: Answer) -> Reply:
        nonlocal pages
        pages += 1
        following = f"{request.target}&order_by=end_time" if pages < 60 else None
        return faults.edited(lambda document: document["meta"].update(next=following))(request, answer)

    scene.node.faults.add(endless, on="participant", times=None)
    assert "counts" in scene.fails()
    assert pages < 20, "no more than it counts, and the one that was under way"


# Clocks


@pytest.mark.parametrize(("minutes", "said"), [(14, None), (15.7, "ahead of"), (-40, "behind")])
def test_clocks_that_differ_by_much_are_said(scene: Scene, minutes: float, said: str | None) -> None:
    scene.node.date_error = minutes * MINUTE
    lines = scene.recovers()
    warnings = [line for line in lines.splitlines() if " WARNING " in line]
    assert len(warnings) == (said is not None) == ("the node's whole list" in lines)
    assert said is None or f"the node's clock is {abs(minutes):.0f} minutes {said}" in warnings[0]


# Things that nobody expects


def test_odd_values_are_written_and_no_traceback(scene: Scene) -> None:
    edits: list[dict[str, Any]] = [
        {"end_time": 5},
        {"end_time": None},
        {"participants": "x", "conference": 4, "media_streams": {"a": 1}},
        {"name": 10**30, "tag": 1e-7},
        {'a, "new"\nfield': {"deep": [[[None]]]}},
        {"id": 17},
    ]

    def odd(document: dict[str, Any]) -> None:
        for edit, one in zip(edits, document["objects"], strict=False):
            one |= edit

    scene.node.faults.add(faults.edited(odd), times=2)
    outcome = scene.collect()
    assert outcome.code == 0, outcome.output
    assert scene.table(CONF)[0][-1] == 'a, "new"\nfield'


def test_a_record_without_an_id_is_left_out_with_a_warning_and_counted(scene: Scene) -> None:
    """Nobody could tell whether it was written before; all others are collected."""

    def without_id(document: dict[str, Any]) -> None:
        for one in document.get("objects", ()):
            if one["id"] in left_out:
                one |= {"id": left_out[one["id"]], "display_name": "No One"}

    left_out = {"112400-005-0": None, "112400-006-0": ""}
    gone = faults.status(404)
    scene.node.faults.add(gone, when=lambda request: request.path.split("/")[-2] in left_out, times=None)
    scene.node.faults.add(faults.edited(without_id), on="participant", times=None)
    outcome = scene.collect()
    assert outcome.code == 0, outcome.output
    scene.check(never={*left_out})
    warnings = [line for line in outcome.stderr.splitlines() if "a record without an id" in line]
    assert (len(warnings), all("'No One'" in line for line in warnings)) == (2, True)
    assert ", 2 left out, " in outcome.stderr.splitlines()[-1]


def test_a_data_folder_that_is_a_file_is_said(scene: Scene, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    outcome = scene("collect", env={"DATA_DIR": str(file)})
    assert outcome.code == 1
    assert file.read_text() == "mine"
    (line,) = outcome.stderr.splitlines()
    assert str(file) in line
    assert "DATA_DIR" in line
