"""How a run's outcome reaches a person: what is due, what is sent to real servers, and that no secret is said.

The servers run on loopback: a monitor that speaks the Healthchecks protocol, a webhook, aiosmtpd, and such as
hang, fail or refuse TLS.
"""

from __future__ import annotations

import email
import email.policy
import json
import logging
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, Self
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from aiosmtpd.controller import Controller

from pexip_history.errors import CollectorError, Stopped
from pexip_history.operate import notify, status
from pexip_history.operate.message import LONGEST_QUOTE, Message, due, plain, unrecorded
from pexip_history.operate.telling import Telling
from pexip_history.settings.environment import Settings, read_settings
from pexip_history.settings.schedule import Schedule
from tests.harness import ROOT, Site
from tests.management_node import certificates
from tests.management_node.server import Reply, Request, Server

OSLO = ZoneInfo("Europe/Oslo")
NODE = "mgr.example.com"
FAILURE = "mgr.example.com: the connection was refused; check DEFAULT_MGR_ADDRESS and its port"
SUMMARY = "312 conferences, 1186 participants (4 late), 0 waiting, 2.3 s"
SECRET = "ba5eba11-5ec7-4e7a-9a55-c0ffee0ddba1"


def run(day: int, outcome: str, hour: int = 0, message: str | None = None) -> dict[str, object]:
    """A row of the run table; the days are November's."""
    return {
        "started": f"2026-11-{day:02}T{hour:02}:05:00",
        "outcome": outcome,
        "message": message or {"done": SUMMARY, "failed": FAILURE}.get(outcome),
        "window_start": "2026-11-01T00:05:00",
        "window_end": f"2026-11-{day:02}T{hour:02}:05:00",
        "conferences": 312,
        "participants": 1186,
    }


STOP = "stopped on request; no data file was changed, the next run covers this window"


@pytest.mark.parametrize(
    ("runs", "title"),
    [
        ([], None),
        ([run(1, "done")], None),
        ([run(1, "running")], None),
        ([run(1, "failed")], "fails"),
        ([run(2, "done"), run(1, "done")], None),
        ([run(2, "failed"), run(1, "done")], "fails"),
        ([run(2, "failed"), run(1, "failed")], "fails"),
        ([run(2, "failed", 9), run(2, "failed", 8), run(1, "done")], None),
        ([run(2, "failed", 9), run(2, "done", 8), run(2, "failed", 7)], "fails"),
        ([run(2, "failed", 23), run(2, "failed", 22), run(1, "done")], "fails"),  # at midnight, in Oslo
        ([run(2, "done"), run(1, "failed")], "works again"),
        ([run(3, "done"), run(2, "done"), run(1, "failed")], None),
        ([run(2, "done"), run(1, "killed")], "works again"),
        ([run(2, "done"), run(1, "running")], "works again"),  # killed, and nobody noted it yet
        ([run(2, "failed", 9), run(2, "killed", 8), run(1, "done")], "fails"),  # a killed run said nothing
        ([run(2, "failed", message=STOP), run(1, "done")], None),
        ([run(2, "failed", message=STOP), run(1, "failed")], None),
        ([run(3, "done"), run(2, "failed", message=STOP), run(1, "done")], None),
        ([run(3, "done"), run(2, "failed", message=STOP), run(1, "failed")], "works again"),
        ([run(2, "failed", 9), run(2, "failed", 8, STOP), run(1, "done")], "fails"),
        (unrecorded("2026-11-02T09:05:00", FAILURE, None), "fails"),
        (unrecorded("2026-11-02T09:05:00", FAILURE, "2026-11-02T08:05:00"), None),
        (unrecorded("2026-11-02T00:05:00", FAILURE, "2026-11-01T00:05:00"), "fails"),
    ],
)
def test_the_run_table_alone_decides_whether_a_message_is_due(runs: list[dict[str, object]], title: str | None) -> None:
    message = due(runs, NODE, OSLO)
    assert (message and message.title) == (title and f"{NODE}: collecting the Pexip history {title}")


def test_a_message_says_since_when_and_what_was_made_up_for() -> None:
    failed = [run(day, "failed") for day in (13, 12, 11)]
    nights = due([*failed, run(10, "done")], NODE, OSLO)
    assert nights
    assert nights.body.startswith(FAILURE)
    assert "3 runs in a row did not go well, since 2026-11-11 01:05 (Europe/Oslo)" in nights.body
    assert "the last one that went well was that of 2026-11-10 01:05 (Europe/Oslo)" in nights.body
    for hour, long in ((1, "60 minutes"), (2, "2 hours"), (47, "47 hours"), (48, "2 days")):
        recovered = due([run(11 + hour // 24, "done", hour % 24), run(11, "failed")], NODE, OSLO)
        assert recovered
        assert f"1 run did not go well, the first {long} before this one" in recovered.body
    again = due([run(14, "done"), *failed], NODE, OSLO)
    assert again
    assert "3 runs did not go well, the first 3 days before this one, at 2026-11-11 01:05" in again.body
    assert "2026-11-01T00:05:00 to 2026-11-14T00:05:00 UTC, 312 conferences and 1,186 participants" in again.body


def test_lost_participants_are_a_message_of_their_own_or_part_of_a_recovery(webhook: Taker) -> None:
    tell(settings_for(None, hook(webhook)), [run(2, "done"), run(1, "done")], lost=3)
    (alone,) = webhook.messages()
    assert (alone["title"], alone["type"]) == (f"{NODE}: 3 participants are lost", "failure")
    assert "DATA_CRON_TIME" in alone["message"]
    both = due([run(2, "done"), run(1, "failed")], NODE, OSLO, lost=3)
    assert both
    assert both.title == f"{NODE}: collecting the Pexip history works again but 3 participants are lost"


def test_a_message_is_short_and_has_no_control_characters() -> None:
    message = due([run(1, "failed", message="\x1b[31m\u202e" + "x" * 5000)], NODE, OSLO)
    assert message
    assert len(message.body) < LONGEST_QUOTE + 400 <= 1000
    whole = due([run(1, "failed", message="x" * LONGEST_QUOTE)], NODE, OSLO)
    assert whole
    assert " ..." in message.body
    assert " ..." not in whole.body
    assert "\x1b" not in message.body


class Taker:
    """Takes what is POSTed to it; `answers` come first, each once, then 200."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answers: list[Reply] = []
        self.server = Server(("127.0.0.1", 0), context, self._answer, lambda: None)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http{'s' if context else ''}://{self.host}"

    def _answer(self, request: Request) -> Reply:
        return self.answers.pop(0) if self.answers else Reply(200, body=b"OK")

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.stop()

    @property
    def received(self) -> list[Request]:
        return self.server.requests

    @property
    def paths(self) -> list[str]:
        return [one.path for one in self.received]

    @property
    def texts(self) -> list[str]:
        return [one.body.decode() for one in self.received]

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts]


def takes() -> Iterator[Taker]:
    with Taker() as taker:
        yield taker


monitor, webhook = pytest.fixture(takes, name="monitor"), pytest.fixture(takes, name="webhook")


@pytest.fixture
def silent() -> Iterator[str]:
    """HOST:PORT of one that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


class Postbox(list[Any]):
    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802
        self.append(envelope)
        return "250 taken"


@pytest.fixture
def mail() -> Iterator[tuple[str, Postbox]]:
    """HOST:PORT of a mail server, and what it took."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    postbox = Postbox()
    controller = Controller(postbox, hostname="127.0.0.1", port=port)
    controller.start()
    yield f"127.0.0.1:{port}", postbox
    controller.stop()


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (notify.PER_RUN, notify.PER_REQUEST, notify.TRIES) == (30, 10, 3), "what the docs promise"
    monkeypatch.setattr(notify, "PER_RUN", 20.0)
    monkeypatch.setattr(notify, "PER_REQUEST", 0.25)
    monkeypatch.setattr(notify, "PAUSE", 0.02)
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "REQUESTS_CA_BUNDLE":
            monkeypatch.delenv(name)


class Said(logging.Handler):
    """What reaches the root logger. (pytest's own caplog also listens where a logger does not hand on.)"""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(("urllib3", "asyncio", "mail")):
            self.records.append(record)

    @property
    def warnings(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def said() -> Iterator[Said]:
    """Everything that is logged; it is the collector's alone, and no secret is ever in it."""
    heard, root = Said(), logging.getLogger()
    root.addHandler(heard)
    yield heard
    root.removeHandler(heard)
    assert {record.name for record in heard.records} <= {"collector"}
    assert SECRET not in "\n".join(heard.warnings)


def url_of(server: Taker) -> str:
    return f"{server.url}/ping/{SECRET}?create=1"


def hook(server: Taker) -> str:
    return server.url.replace("http", "json", 1) + f"/{SECRET}"


def mail_to(mail: tuple[str, Postbox]) -> str:
    return f"mailto://{mail[0]}?from=a@example.com&to=b@example.com"


def settings_of(ping_url: str | None = None, urls: tuple[str, ...] = ()) -> Settings:
    least = {"DEFAULT_MGR_ADDRESS": NODE, "DEFAULT_MGR_SECRET": "sesame", "TZ": str(OSLO)}
    return replace(read_settings(least), ping_url=ping_url, notify_urls=urls)


def settings_for(monitor: Taker | None = None, *urls: str) -> Settings:
    return settings_of(url_of(monitor) if monitor else None, urls)


def tell(settings: Settings, runs: list[dict[str, object]], lost: int = 0) -> notify.Pings:
    """One run, from its start to the telling."""
    pings = notify.Pings(settings.ping_url)
    pings.start()
    notify.tell(settings, pings, runs, lost)
    return pings


def test_of_a_run_whose_row_cannot_be_written_those_are_told_who_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the row before is taken to be that of the last scheduled time."""

    def unreadable(settings: Settings) -> NoReturn:
        raise CollectorError("it cannot be read")

    def stopped(*arguments: object) -> NoReturn:
        raise Stopped  # which is no reason to end otherwise: the run is over

    monkeypatch.setattr(status, "peek", unreadable)
    monkeypatch.setattr(notify, "tell", stopped)
    schedule, started = Schedule("* * * * *", OSLO), datetime(2026, 11, 24, 0, 5, 20, tzinfo=UTC)
    for settings, by_hand, wanted in (
        (settings_of("http://hc"), False, True),
        (settings_of(urls=("json://hook",)), False, True),
        (settings_of("http://hc"), True, False),
        (settings_of(), False, False),
    ):
        with Telling(replace(settings, schedule=schedule), started, by_hand) as telling:
            telling.failed_unrecorded(FAILURE)
        assert list(telling.runs) == (
            unrecorded("2026-11-24T00:05:20", FAILURE, "2026-11-24T00:04:00") if wanted else []
        )


@pytest.mark.parametrize(("outcome", "suffix"), [("done", ""), ("failed", "/fail")])
def test_a_run_is_a_start_and_an_end_with_one_id(monitor: Taker, said: Said, outcome: str, suffix: str) -> None:
    tell(settings_for(monitor), [run(1, outcome)])
    assert monitor.paths == [f"/ping/{SECRET}/start", f"/ping/{SECRET}{suffix}"]
    assert monitor.texts[1] == {"done": SUMMARY, "failed": FAILURE}[outcome]
    assert [one.query["create"] for one in monitor.received] == ["1", "1"]
    start, end = (UUID(one.query["rid"]) for one in monitor.received)
    assert start == end
    assert said.warnings == []


def test_the_start_does_not_hold_up_the_run(silent: str) -> None:
    pings = notify.Pings(f"http://{silent}/{SECRET}")
    pings.start()
    assert pings._started  # private: that it goes on beside the run cannot be seen from outside
    assert not pings._started.done()


def test_an_end_whose_start_was_lost_goes_without_the_id(monitor: Taker) -> None:
    monitor.answers = [Reply(404)]
    tell(settings_for(monitor), [run(1, "done")])
    assert ["rid" in one.query for one in monitor.received] == [True, False]


def test_no_start_comes_after_the_end(monitor: Taker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "PAUSE", 0.3)
    monitor.answers = [Reply(500, delay=0.1)]
    pings = tell(settings_for(monitor), [run(1, "done")])
    assert pings._started  # private: when the start has given up
    assert pings._started.result(20)
    assert monitor.paths == [f"/ping/{SECRET}/start", f"/ping/{SECRET}"]


@pytest.mark.parametrize(
    ("answers", "tries", "reason"),
    [
        ([Reply(500, body=SECRET.encode())] * 3, 3, "it answered 500"),
        ([Reply(404, body=SECRET.encode())], 1, "it answered 404; does the check still exist?"),
        ([Reply(302, {"Location": "/elsewhere"})], 1, "it answered 302; give the address that it leads to"),
        ([Reply(200, body=b"OK (not found)")], 1, "it answered 404; does the check still exist?"),
        ([Reply(200, delay=1.0)] * 3, 3, "no answer within 10 s"),
    ],
)
def test_what_may_pass_is_tried_three_times_and_the_rest_once(
    monitor: Taker, said: Said, answers: list[Reply], tries: int, reason: str
) -> None:
    monitor.answers = list(answers)
    notify.tell(settings_for(monitor), notify.Pings(url_of(monitor)), [run(1, "done")])
    assert said.warnings == [f"DATA_PING_URL ({monitor.host}) was not told how the run went: {reason}"]
    assert len(monitor.received) == tries


def test_ten_failing_nights_and_a_good_one_are_eleven_messages(
    monitor: Taker, webhook: Taker, mail: tuple[str, Postbox], said: Said
) -> None:
    host, postbox = mail
    settings = settings_for(monitor, hook(webhook), f"mailto://{host}?from=node@example.com&to=ops@example.com")
    runs = [run(1, "done")]
    for night in range(2, 12):
        for hour in (0, 12):
            runs.insert(0, run(night, "failed", hour))
            tell(settings, runs)
    runs.insert(0, run(12, "done"))
    tell(settings, runs)
    runs.insert(0, run(13, "done"))
    tell(settings, runs)
    kinds = [(message["title"].rpartition(" ")[2], message["type"]) for message in webhook.messages()]
    assert kinds == [("fails", "failure")] * 10 + [("again", "success")]
    assert len(postbox) == 11
    first = email.message_from_bytes(postbox[0].content, policy=email.policy.default)
    assert (first["From"], first["To"]) == ("node@example.com", "ops@example.com")
    assert first["Subject"] == f"{NODE}: collecting the Pexip history fails"
    assert FAILURE in first.get_content().replace("\n", " ")
    assert len(monitor.received) == 2 * 22, "each run has its two pings"
    assert said.warnings == []


def test_a_run_that_was_stopped_says_nothing(monitor: Taker, webhook: Taker) -> None:
    notify.tell(settings_for(monitor, hook(webhook)), notify.Pings(url_of(monitor)), [run(1, "failed", message=STOP)])
    assert monitor.received == webhook.received == []


def test_servers_that_hang_fail_or_refuse_tls_are_a_warning_each(
    monitor: Taker, webhook: Taker, silent: str, mail: tuple[str, Postbox], said: Said
) -> None:
    webhook.answers = [Reply(500, body=SECRET.encode())] * 3
    people = "from=a@example.com&to=b@example.com"
    expected = {
        hook(webhook): "(json 127.0.0.1) was not told how the run went: it answered 500",
        f"json://u:{SECRET}@{silent}/{SECRET}": "(json 127.0.0.1) was not told how the run went: no answer within 10 s",
        f"jsons://{monitor.host}/{SECRET}": "(jsons 127.0.0.1) was not told how the run went: it refuses TLS",
        f"mailto://{silent}?{people}": "(mailto 127.0.0.1) was not told how the run went: no answer within 10 s",
        f"mailtos://u:{SECRET}@{mail[0]}?{people}": "(mailtos 127.0.0.1) was not told how the run went: it refuses TLS",
        f"json://127.0.0.1:1/{SECRET}": "(json 127.0.0.1) was not told how the run went: the connection was refused",
        f"what://{SECRET}": "was not told how the run went: Apprise does not understand the address; see",
    }
    tell(settings_of(f"http://{silent}/{SECRET}", tuple(expected)), [run(1, "failed")])
    first, *others = said.warnings
    assert first == f"DATA_PING_URL ({silent}) was not told how the run went: no answer within 10 s"
    for place, (warning, sentence) in enumerate(zip(others, expected.values(), strict=True), 1):
        assert warning.startswith(f"DATA_NOTIFY_URLS {place} {sentence}")


def test_an_error_is_told_by_what_it_comes_to() -> None:
    """In the words of smtplib, urllib3 and the system; each is rare here, and has no server in these tests."""
    for text, why in (
        ("SMTPAuthenticationError(535, b'5.7.8 not accepted')", "it does not accept the name or the password"),
        ("[Errno -3] Temporary failure in name resolution", "the name is not known"),
        ("ProxyError('Unable to connect to proxy')", "the proxy does not let it through; see HTTPS_PROXY and NO_PROXY"),
        (f"something else with {SECRET}", "it cannot be used"),
    ):
        assert notify._why(text) == why  # private: see above


def test_all_are_told_at_once(monitor: Taker, webhook: Taker, said: Said) -> None:
    """None answers before both were asked."""
    both = threading.Barrier(2, timeout=20)
    for taker in (monitor, webhook):
        taker.server.answer = lambda request: (both.wait(), Reply(200, body=b"OK"))[1]
    notify.tell(settings_for(monitor, hook(webhook)), notify.Pings(url_of(monitor)), [run(1, "failed")])
    assert said.warnings == []


def test_all_together_have_half_a_minute(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = list[float]()

    def hangs(seconds: float) -> NoReturn:
        waited.append(seconds)
        raise TimeoutError

    monkeypatch.setattr(notify, "_in_background", lambda work: SimpleNamespace(result=hangs))
    monkeypatch.setattr(notify, "time", SimpleNamespace(monotonic=iter([0, 0, 12]).__next__))
    notify._warn([("one", lambda: None), ("another", lambda: None)])  # private: no server is that slow in a test
    assert (waited, len(said.warnings)) == ([20, 8], 2)


def test_neither_a_message_nor_a_ping_follows_a_redirect(monitor: Taker, webhook: Taker) -> None:
    webhook.answers = [Reply(307, {"Location": f"{monitor.url}/elsewhere"})] * 6
    tell(settings_for(webhook, hook(webhook)), [run(1, "failed")])
    assert monitor.received == []


def test_of_a_monitors_answer_no_more_is_awaited_than_tells_whether_it_knows_the_check(
    monitor: Taker, said: Said
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    monitor.answers = [Reply(200, raw=lambda send: send(head + bytes(100)))] * 2
    tell(settings_for(monitor), [run(1, "done")])
    assert (len(monitor.received), said.warnings) == (2, [])


def test_what_nobody_expects_of_a_message_is_a_warning_too(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify.Pings, "_once", lambda pings, address, body: 1 / 0)
    notify.tell_wrong_settings("http://hc", ["TZ: is wrong"])
    assert said.warnings == ["DATA_PING_URL (hc) was not told how the run went: unexpected ZeroDivisionError"]


def test_a_message_that_fails_is_tried_three_times(webhook: Taker, said: Said) -> None:
    webhook.answers = [Reply(500)] * 2
    notify.tell(settings_for(None, hook(webhook)), notify.Pings(None), [run(1, "failed")])
    assert len(webhook.received) == 3
    assert said.warnings == []


def test_one_that_answers_byte_by_byte_is_left_behind(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "PER_RUN", 0.6)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):  # it hangs up
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not done.wait(0.1):
                    connection.sendall(b"y")

        done, dripping = threading.Event(), threading.Thread(target=drip)
        dripping.start()
        notify.tell_wrong_settings(f"http://127.0.0.1:{listening.getsockname()[1]}/", ["TZ: is wrong"])
        done.set()
        dripping.join()
    assert "no answer within" in said.warnings[-1]


def test_a_run_that_cannot_begin_is_a_failure_that_lists_the_wrong_settings(monitor: Taker, collector: Site) -> None:
    collector.env["DATA_PING_URL"] = url_of(monitor)
    for command in ("collect", "crontab", "status"):
        assert collector(command, env={"UMASK": "9", "PUID": "x"}).code == 2
    assert monitor.paths == [f"/ping/{SECRET}/fail"] * 2, "status is asked by a person"
    assert [line.partition(":")[0] for line in monitor.texts[0].splitlines()[1:]] == ["PUID", "UMASK"]
    assert collector("check", env={"DATA_NOTIFY_URLS": "nonsense://x"}).code == 2
    (collector.data / ".collector").touch()
    assert collector("collect", "--from", "2026-11-23").code == 1
    assert len(monitor.paths) == 2, "who asked for it sees it"
    assert collector("collect").code == 1
    assert monitor.paths[2:] == [f"/ping/{SECRET}/fail"]
    assert ".collector" in monitor.texts[2]


def test_a_test_reaches_all_and_leaves_the_check_as_it_is(
    monitor: Taker, webhook: Taker, mail: tuple[str, Postbox]
) -> None:
    webhook.answers = [Reply(500)] * 3
    assert notify.try_all(settings_for(monitor, mail_to(mail), hook(webhook))) == [
        (f"DATA_PING_URL ({monitor.host})", True, "the test was taken"),
        ("DATA_NOTIFY_URLS 1 (mailto 127.0.0.1)", True, "the test was taken"),
        ("DATA_NOTIFY_URLS 2 (json 127.0.0.1)", False, "it answered 500"),
    ]
    assert monitor.paths == [f"/ping/{SECRET}/log"]
    assert len(mail[1]) == 1


def test_what_is_set_is_described_without_a_secret() -> None:
    tokens = f"tgram://123456789:{'s3cret' * 6}/1"
    slack = "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    settings = settings_of(f"https://u:{SECRET}@hc.example.com:8000/{SECRET}", (tokens, slack, "ntfy://s3cret"))
    assert notify.described(settings) == (
        "DATA_PING_URL (hc.example.com:8000), DATA_NOTIFY_URLS 1 (tgram), DATA_NOTIFY_URLS 2 (slack),"
        " DATA_NOTIFY_URLS 3 (ntfy)"
    )
    assert notify.described(settings_of()).startswith("nobody; DATA_PING_URL")


def test_what_apprise_does_not_understand_is_a_problem_that_does_not_show_it(said: Said) -> None:
    good = f"jsons://hooks.example.com/{SECRET}"
    assert notify.notify_problems([good, f"https://hooks.example.com/{SECRET}", SECRET, f"workflows://{SECRET}"]) == [
        "address 2 of 4 is not an Apprise URL; for a webhook of your own write jsons:// (http: json://)",
        "address 3 of 4 is not an Apprise URL; see docs/getting-told.md",
        "address 4 of 4 is not an Apprise URL; see docs/getting-told.md",
    ]


def test_pings_and_messages_obey_the_proxy_and_no_proxy_and_a_ping_no_netrc(
    monitor: Taker, webhook: Taker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login admin password another\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", monitor.url)
    settings = settings_of("http://hc.invalid/uuid", ("json://hook.invalid/x",))
    assert [taken for _, taken, _ in notify.try_all(settings)] == [True, True]
    assert {one.headers["Host"] for one in monitor.received} == {"hc.invalid", "hook.invalid"}
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    notify.try_all(settings_for(webhook, hook(webhook)))
    assert len(webhook.received) == 2
    assert [one.headers["Authorization"] for one in webhook.received if one.path.endswith("/log")] == [None]


def test_a_certificate_of_a_company_is_trusted_by_requests_ca_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = certificates.issued(*certificates.LOOPBACK)
    with Taker(certificate.context()) as server:
        (outcome,) = notify.try_all(settings_for(server))
        assert outcome[2] == "its certificate does not verify"
        (tmp_path / "ca.pem").write_bytes(certificate.ca)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        outcomes = notify.try_all(settings_for(server, hook(server)))
    assert [sentence for _, _, sentence in outcomes] == ["the test was taken"] * 2


def test_nothing_is_imported_where_nothing_is_set() -> None:
    script = """
import sys
from pexip_history.operate import notify
from pexip_history.settings.environment import read_settings
pings, settings = notify.Pings(None), read_settings({}, node=False)
pings.start()
notify.tell(settings, pings, [{"started": "2026-11-01T00:05:00", "outcome": "failed", "message": "x"}], 3)
notify.tell_wrong_settings(None, ["x"])
assert notify.try_all(settings) == [] and notify.notify_problems([]) == [] and notify.described(settings)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"apprise", "requests", "urllib3", "http", "ssl"}))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=20)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_what_hangs_does_not_keep_the_process_from_ending(silent: str) -> None:
    script = f"""
from pexip_history.operate import notify
from pexip_history.settings.environment import read_settings
notify.PER_RUN = 0.3
urls = "json://{silent}/ mailto://{silent}?from=a@b.example&to=a@b.example"
notify.try_all(read_settings({{"DATA_PING_URL": "http://{silent}/", "DATA_NOTIFY_URLS": urls}}, node=False))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=8)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_message_is_text_in_whatever_form_it_travels_and_brings_no_picture(mail: tuple[str, Postbox]) -> None:
    (service,) = notify._services([f"discord://{'1' * 18}/{'t' * 68}"])  # private: as below
    assert service
    assert not next(iter(service)).image_url("failure"), "no picture from elsewhere"
    evil = Message(NODE, "the node said <script>alert(1)</script>\n\nand more")
    # private: what Apprise is given cannot be seen from outside
    ((_, work),) = notify._messages(settings_for(None, mail_to(mail)), evil, False)
    assert work() is None
    sent = email.message_from_bytes(mail[1][0].content, policy=email.policy.default)
    for part in sent.walk():
        if part.get_content_type() == "text/html":
            assert "<script>" not in part.get_content()


OUTSIDE = [
    ("@everyone and <@&42>, ops@evil.example", "(at)everyone and ‹(at)&42›, ops(at)evil[.]example"),
    ("<!channel> <https://evil.example|here> #general", "‹!channel› ‹https[:]//evil[.]example¦here› ♯general"),
    ("[click](https://evil.example/x?y=1)", "(click)(https[:]//evil[.]example/x?y=1)"),
    ("<a href='//evil.example'>**free** `x` ~~y~~ _z_ __w__</a>", None),
    ("Location: HTTPS://192.0.2.66/x, evil\u3002example", "Location: HTTPS[:]//192[.]0[.]2[.]66/x, evil[.]example"),
    ("javascript://x mailto:a@b.example www.evil.example", None),
    ("evil.XN--P1AI and 192.0.2.256", "evil[.]XN--P1AI and 192[.]0[.]2[.]256"),
    ("a\r\x1b[31m\u202eb", "a\\x0d\\x1b(31m\\u202eb"),
]
OURS = (
    f"{NODE}:8443: check DEFAULT_MGR_CA_FILE and pexHistoryConf.csv.set-aside-2026; see collector.py check",
    "2 runs since 2026-11-11 01:05:07.25 (Europe/Oslo), version 1.2.0\n\n0.25 s; 10,000 of them",
)


@pytest.mark.parametrize(("text", "shown"), OUTSIDE)
def test_what_strangers_wrote_is_no_mention_no_markup_and_no_link(text: str, shown: str | None) -> None:
    found = plain(f"the subject is CN={text}", NODE).removeprefix("the subject is CN=")
    assert shown is None or found == shown
    assert not re.search(r"[@<>`*~|#]|://|\]\(|\b_|_\b|\w\.\w", found)
    from apprise.plugins.discord import NotifyDiscord

    discord = NotifyDiscord("1" * 18, "t" * 68)
    assert discord.ping_payload(found) == {}, "what Apprise would make a mention of"
    assert [plain(text, NODE) for text in OURS] == [*OURS], "what is ours and the user's stays what it is"


def test_a_message_and_a_ping_are_plain_wherever_the_words_came_from(monitor: Taker, webhook: Taker) -> None:
    message = "mgr.example.com: Presented: subject 'CN=@everyone [x](https://evil.example)'"
    tell(settings_for(monitor, hook(webhook)), [run(1, "failed", message=message)])
    for body in (webhook.messages()[0]["message"], monitor.texts[-1]):
        assert body.startswith("mgr.example.com: Presented: subject 'CN=(at)everyone (x)(https[:]//evil[.]example)'")


@pytest.mark.parametrize("large", [False, True])
def test_the_page_of_a_month_is_attached_to_a_mail_unless_it_is_too_large_and_told_in_figures_elsewhere(
    webhook: Taker, mail: tuple[str, Postbox], said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    page = tmp_path / "report-2026-10.html"
    page.write_text("<p>Participants: 42</p>")
    monkeypatch.setattr(notify, "MOST_ATTACHED", page.stat().st_size - large)
    notify.tell_month(settings_for(None, mail_to(mail), hook(webhook)), page, ["Participants: 42"])
    assert not said.warnings
    (message,) = webhook.messages()
    assert "Participants: 42" in message["message"]
    assert message["type"] == "success"
    assert ("too large to be sent" in message["message"]) is large
    sent = email.message_from_bytes(mail[1][0].content, policy=email.policy.default)
    files = {part.get_filename(): part.get_content() for part in sent.iter_attachments()}
    assert {name: str(text).strip() for name, text in files.items()} == (
        {} if large else {page.name: "<p>Participants: 42</p>"}
    )


def test_a_link_in_the_place_of_a_months_page_is_not_sent(mail: tuple[str, Postbox], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sesame, open")
    page = tmp_path / "report-2026-10.html"
    page.symlink_to(tmp_path / "secret")
    with pytest.raises(CollectorError, match="symbolic link"):
        notify.tell_month(settings_for(None, mail_to(mail)), page, [])
    assert not mail[1]
