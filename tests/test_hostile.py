"""What an attacker answers, and what odd days bring: bounded, said in one clean line, and nothing is lost.

Each is a process of its own whose peak of memory is told.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.forked import Outcome
from tests.harness import CONF, DAY, HOUR, MIDNIGHT, Site, environment_for
from tests.management_node import ManagementNode, OAuth2, certificates, faults
from tests.raw_node import RawNode, Send, Talk, asked, conferences, listing, normal, reply, zipped

pytestmark = pytest.mark.slow

MB = 1_000_000
MOST_MEMORY = 220 * MB
"""A container has 512 MB, and is to stay below 256."""

SMALL_BOMB = zipped([bytes(MB)] * 60)
"""60 MB in 60 KB."""


@dataclass(frozen=True)
class Attack:
    """How a node answers; how the run ends, and a part of what it says."""

    talk: Talk
    says: str = ""
    code: int = 1
    env: tuple[tuple[str, str], ...] = ()
    greet: Callable[[socket.socket], object] | None = None


def always(body: bytes, *headers: str, status: str = "200 OK") -> Talk:
    answer = reply(body, *headers, status=status)
    return lambda target, send: send(answer)


def in_turn(*bodies: bytes) -> Talk:
    """One after the other; the last one again and again. The small first request of a run gets the first too."""
    number = count()

    def talk(target: str, send: Send) -> None:
        first = asked(target)[1].get("limit") == "1"
        send(reply(bodies[0 if first else min(next(number), len(bodies) - 1)]))

    return talk


def page(number: int) -> str:
    return f"/api/admin/history/v1/conference/?limit=1000&offset={number}"


def holding(name: str, value: bytes, number: int = 0) -> bytes:
    """A record, one field of which has this JSON."""
    return conferences(1, number, **{name: "HERE"}).replace(b'"HERE"', value)


def times(json: bytes, size: float) -> bytes:
    """An array of as many as fill so many MB."""
    return b"[" + (json + b",") * int(size * MB / (len(json) + 1)) + json + b"]"


def text(size: float, letter: str = "a") -> bytes:
    """Text that takes four bytes a character in memory."""
    return json.dumps("\U0001f680;" + letter * int(size * MB), ensure_ascii=False).encode()


def one(field: str, value: bytes) -> Talk:
    """A record, one field of which has this JSON."""
    return always(listing(holding(field, value), 1))


def zipped_bomb(*headers: str, status: str = "200 OK") -> Talk:
    return always(SMALL_BOMB, "Content-Encoding: gzip", *headers, status=status)


def in_participants(value: bytes) -> Talk:
    def talk(target: str, send: Send) -> None:
        found = listing(holding("media_streams", value), 1)
        send(reply(found) if asked(target)[0] == "participant" else normal(target))

    return talk


STREAMS = (("DATA_MEDIA_STREAMS", "true"),)
VALUES, BYTES, RECORDS, FIELDS = "more values", "bytes at once", "records at once", " fields, of which"
DAMAGED, TAKEN, HINTS = "cut or damaged", "the run has taken", "informational answers"
BOMBS = {
    "gzip": Attack(zipped_bomb(), BYTES),
    "gzip three times over": Attack(always(zipped([SMALL_BOMB], 2), "Content-Encoding: gzip, gzip, gzip"), BYTES),
    "gzip fifty times over": Attack(always(b"x", "Content-Encoding: " + ", ".join(["gzip"] * 50)), "encodings"),
    "a million members of gzip": Attack(always(gzip.compress(b"") * 100_000, "Content-Encoding: gzip"), DAMAGED),
    "a redirect with gzip": Attack(zipped_bomb("Location: /x", status="302 Found"), BYTES),
    "a body without an end": Attack(
        lambda target, send: [send(b"HTTP/1.1 200 OK\r\n\r\n"), *(send(bytes(MB)) for _ in range(1000))],  # type: ignore[arg-type, return-value]
        BYTES,
    ),
    "tiny records": Attack(always(listing(times(b"{}", 5.9)[1:-1], 1)), VALUES),
    "records with an id, the quick way": Attack(
        in_turn(listing(b'{"id":"a"}', 9**6, page(1)), listing(times(b'{"id":"a"}', 2.9)[1:-1], 9**6)), RECORDS
    ),
    "nested where text was": Attack(
        in_turn(listing(conferences(1), 2, page(1)), listing(holding("name", times(b"{}", 2.9), 1), 2)), VALUES
    ),
    "nested participants": Attack(one("participants", times(b"{}", 2.9)), VALUES),
    "nested meta": Attack(always(b'{"meta": {"a": ' + times(b"{}", 5.8) + b'}, "objects": []}'), VALUES),
    "only json takes it": Attack(one("name", b"[NaN, " + times(b"{}", 2.9) + b"]"), VALUES),
    "50,000 columns": Attack(always(listing(conferences(1, **{f"f{n}": 1 for n in range(50_000)}), 1)), FIELDS),
    "a million columns": Attack(
        always(listing(b'{"id":1,' + b",".join(b'"%d":1' % n for n in range(400_000)) + b"}", 1)), VALUES
    ),
    "a column's name of 1 MB": Attack(always(listing(conferences(1, **{"=" + "a" * MB: 1}), 1)), "a field name of"),
    "a page of wide text, and a bomb behind it": Attack(
        in_turn(
            listing(conferences(1), 3, page(1)),
            listing(holding("participants", b"[" + text(5.9) + b"]", 1), 3, page(2)),
            listing(holding("name", times(b"{}", 2.9), 2), 3),
        ),
        VALUES,
    ),
    "a name of quotes": Attack(one("name", b'"' + b'\\"' * int(2.9 * MB) + b'"'), code=0),
    "a name of formulas": Attack(one("name", b'"' + b";=a" * MB + b'"'), code=0),
    "a name of digits": Attack(one("name", b'"+' + b"1" * (5 * MB) + b'x"'), code=0),
    "ids of 1 MB": Attack(always(listing(b",".join(b'{"id":' + text(1, str(n)) + b"}" for n in range(5)), 5)), code=0),
    "a conference of 300,000 participants": Attack(
        lambda target, send: send(
            reply(listing(holding("participants", times(b'"/x/1234567/"', 4.2)), 1))
            if asked(target)[0] == "conference"
            else normal(target)
        ),
        code=0,
    ),
    "streams of nothing": Attack(in_participants(times(b"{}", 0.5)), code=0, env=STREAMS),
    "streams of many names": Attack(
        in_participants(b"[{" + b",".join(b'"%d":1' % n for n in range(150_000)) + b"}," + times(b"{}", 0.2)[1:]),
        FIELDS,
        env=STREAMS,
    ),
    "a stream of wide text": Attack(in_participants(b'[{"a":' + text(5.9) + b"}]"), code=0, env=STREAMS),
}
DEEP = b"[" * 10**5 + b"]" * 10**5
BOMBS |= {
    "100,000 deep": Attack(always(b"[" * 10**5), DAMAGED),
    "a field 100,000 deep": Attack(one("x", DEEP), DAMAGED),
    "NaN, and a field 100,000 deep": Attack(one("x", b"[NaN," + DEEP + b"]"), DAMAGED),
}


def dripping(head: bytes, piece: bytes, pause: float = 0.05) -> Talk:
    def talk(target: str, send: Send) -> None:
        send(head)
        while True:  # until the collector hangs up
            send(piece)
            time.sleep(pause)

    return talk


def mute(connection: socket.socket) -> None:
    for byte in b"\x16\x03\x03\x40\x00" + b"\x02" * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LATE = "no whole answer within"
DRIPS = {
    "a status line": Attack(dripping(b"HTTP/1.1 200 ", b"a"), LATE),
    "a header": Attack(dripping(OK + b"X: ", b"a"), LATE),
    "a body without a length": Attack(dripping(OK + b"\r\n" + listing(b"", 0), b" "), LATE),
    "chunks": Attack(dripping(CHUNKED, b"1\r\n{\r\n"), LATE),
    "trailers": Attack(dripping(CHUNKED + b"0\r\n", b"X: a\r\n"), LATE),
    "gzip of nothing": Attack(
        dripping(OK + b"Content-Encoding: gzip\r\n" + CHUNKED[len(OK) :], b"14\r\n" + gzip.compress(b"") + b"\r\n"),
        LATE,
    ),
    "informational answers": Attack(dripping(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.3), LATE),
    "a handshake": Attack(lambda target, send: None, LATE, greet=mute),
}
FLOODS = {
    "103 Early Hints": Attack(dripping(b"", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 50, 0), HINTS),
    "headers": Attack(dripping(OK, b"X: a\r\n" * 50, 0), "more than 100 headers"),
    "one header": Attack(dripping(OK + b"X: ", b"a" * 65536, 0), "65536"),
    "the size of a chunk": Attack(dripping(CHUNKED, b"0" * 65536, 0), "65536"),
    "cookies": Attack(
        always(listing(b"", 0), *[f"Set-Cookie: c{n}={'x' * 3000}" for n in range(90)]), "0 conferences", code=0
    ),
    "hints before the answer": Attack(
        lambda target, send: send(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + normal(target)
        ),
        "0 conferences",
        code=0,
    ),
}


def endless(total: int, each: int, **more: Any) -> Talk:
    """Pages without an end, of records that differ, with a `next` that leads on."""
    number = count(1)

    def talk(target: str, send: Send) -> None:
        n = next(number)
        fields = {f"{name}{n}_{i}": 1 for name, width in more.items() for i in range(width)}
        send(reply(listing(conferences(each, n * each, **fields), total, page(n))))

    return talk


def two_in_turn(target: str, send: Send) -> None:
    other = page(1 if asked(target)[1].get("offset") == "2" else 2)
    send(reply(listing(conferences(100), 10**7, other)))


CHAINS = {
    "10^15 records": Attack(endless(10**15, 100), "a count of 1000000000000000 records"),
    "an honest number": Attack(endless(10**7, 100), TAKEN, env=(("DEFAULT_CONF_LIMIT", "0"),)),
    "an honest number behind a limit": Attack(endless(10**7, 1000), TAKEN),
    "two pages in turn": Attack(two_in_turn, TAKEN),
    "new columns on each page": Attack(
        endless(10**7, 2, f=99), "columns, of which", env=(("DEFAULT_CONF_LIMIT", "0"),)
    ),
}

NASTY = "\x1b[2J\x9b31m\u202e\r\nhealthy: 312 conferences\u2028\x07\x00"
ON_WIRE = NASTY.replace("\r\n", "\r").replace("\x00", "").encode().decode("latin-1")  # in a header
TEXTS = {
    "next": Attack(always(listing(conferences(1), 2, NASTY)), "next page"),
    "next elsewhere": Attack(always(listing(conferences(1), 2, f"https://{NASTY}/")), "next page"),
    "next of 1 MB": Attack(always(listing(conferences(1), 2, "/" + "\u202e" * (MB // 2))), "next page"),
    "Content-Type": Attack(always(b"x", f"Content-Type: {ON_WIRE}"), "instead of JSON"),
    "Location": Attack(always(b"", f"Location: {ON_WIRE}", status="302 Found"), "is not followed"),
    "Location in no encoding": Attack(always(b"", "Location: /\xff\xfe", status="302 Found"), "is not followed"),
    "Location that is no address": Attack(always(b"", "Location: http://[", status="302 Found"), "is not followed"),
    "a status line": Attack(always(b"", status=f"999 {ON_WIRE}"), "answered 999"),
    "no HTTP": Attack(lambda target, send: send(ON_WIRE.encode("latin-1") + b"\r\n\r\n"), "broke"),
    "a header without a colon": Attack(always(b"x", ON_WIRE), "JSON"),
    "a column": Attack(always(listing(conferences(1, **{NASTY: NASTY}), 1)), "1 conference, ", code=0),
    "half of a pair in an id": Attack(
        always(listing(rb'{"id":"a\ud800","end_time":"2020-01-01T12:00:00\udfff","start_time":"\ud800"}', 1)),
        "1 conference, ",
        code=0,
    ),
    "half of a pair in next": Attack(
        always(listing(conferences(1), 2, "HERE").replace(b"HERE", rb"/\ud800")), "next page"
    ),
    "half of a pair in a column": Attack(
        always(listing(rb'{"id":"a","\ud800":"\ud800","participants":["/x/\ud800/"],"conference":"\ud800"}', 1)),
        "1 conference, ",
        code=0,
    ),
    "no UTF-8 in a list": Attack(one("participants", b'["/\xff/"]'), "1 conference, ", code=0),
    "no UTF-8 in a text": Attack(one("name", b'"\xff"'), DAMAGED),
    "an end that is no time": Attack(
        in_turn(listing(conferences(2, end_time=f"2020-01-01T12:00:00{NASTY}"), 2)),
        "0 conferences",
        code=0,
        env=(("DEFAULT_CONF_LIMIT", "1"), ("DEFAULT_PART_LIMIT", "1")),
    ),
}
HEADERS = {
    f"{name}: {value}": Attack(
        always(listing(conferences(1), 1), f"{name}: {value}", status=status), says, 0 if status == "200 OK" else 1
    )
    for name, status, says, values in (
        ("Date", "200 OK", "1 conference, ", ("inf", "nan", "9999", "-1", " ", "(", "1e400", "\xff",
         "Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359")),
        ("Retry-After", "503 Busy", "answered 503", ("inf", "nan", "-5", "1e9", "9" * 400, "\xff",
         "Fri, 31 Dec 9999 23:59:59 GMT")),
    )
    for value in values
}  # fmt: skip
ATTACKS = {
    (kind, name): attack
    for kind, attacks in {
        "bomb": BOMBS, "drip": DRIPS, "flood": FLOODS, "chain": CHAINS, "text": TEXTS, "header": HEADERS
    }.items()
    for name, attack in attacks.items()
}  # fmt: skip
SHRUNK: dict[str, dict[str, float]] = {
    "drip": {"LONGEST_ANSWER": 0.5},
    "chain": {"LONGEST_RUN": 0.7, "LONGEST_WAIT": 0.5, "PACE": 10**6},
}


def play(site: Site, kind: str, name: str) -> Outcome:
    """What becomes of an attack."""
    attack = ATTACKS[kind, name]
    with RawNode(attack.talk, greet=attack.greet) as node:
        site.env = environment_for(node, site.data) | dict(attack.env)
        constants = {"PATIENCE": 0.3, "ATTEMPTS": 2, **SHRUNK.get(kind, {})}
        return site("collect", "--from", "2020-01-01", "--to", "2020-01-02", constants=constants)


@pytest.mark.parametrize(("kind", "name"), ATTACKS)
def test_whatever_a_node_answers_memory_and_time_are_bounded_and_one_line_says_it(
    site: Site, kind: str, name: str
) -> None:
    attack, ended = ATTACKS[kind, name], play(site, kind, name)
    assert ended.code == attack.code, ended.output[-2000:]
    assert ended.peak < MOST_MEMORY, f"{ended.peak / MB:.0f} MB"
    assert attack.says in ended.output
    assert "Traceback" not in ended.output
    assert "unexpected" not in ended.output
    assert ended.output.count(" ERROR ") == attack.code
    for said in (ended.output, site.log()):
        assert len(said) < 10_000
        assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ \S", line) for line in said.splitlines())
        assert is_clean(said)
    if attack.code:
        assert site.files() == {}, "a run that fails changes no data file"
    for command in ("status", "health") if name.startswith("next") else ():
        said = site(command).stdout  # no screen shows more of a node's words than can be read
        assert is_clean(said)
        assert len(said) < 10_000
        assert not any(line.startswith("healthy") for line in said.splitlines())


def is_clean(said: str) -> bool:
    """Whether it moves no cursor, forges no line and turns no direction: byte by byte."""
    return all(character == "\n" or character.isprintable() for character in said)


# What reaches the screens of those who look after it


@pytest.mark.parametrize(
    "body",
    [
        listing(conferences(1, end_time=NASTY), 1),
        listing(conferences(1), 1).replace(b'"limit": 1000', b'"limit": ' + json.dumps(NASTY).encode()),
        listing(conferences(1), 1).replace(
            b'"total_count": 1', b'"total_count": ' + json.dumps([NASTY] * 999).encode()
        ),
        listing(b"", 0),
        b"[]",
        b"{}",
    ],
)
def test_check_shows_what_a_node_says_in_one_line_for_each_thing(site: Site, body: bytes) -> None:
    with RawNode(always(body)) as node:
        outcome = site("check", env=environment_for(node, site.data) | {"DATA_CRON_TIME": None})
    lines = outcome.stdout.splitlines()
    assert [line.split(":")[0][5:] for line in lines][:4] == ["settings", "name", "TLS", "credentials"]
    assert {line[:5].strip() for line in lines} <= {"ok", "FAIL", "info", "warn"}
    assert is_clean(outcome.stdout)
    assert "unexpected" not in outcome.output
    assert outcome.stderr == ""


def test_check_of_a_node_whose_whole_list_is_too_large_for_one_answer_still_tells_of_it(site: Site) -> None:
    def talk(target: str, send: Send) -> None:
        all_of_them = asked(target)[1].get("limit") == "0"
        send(reply(listing(conferences(8000 if all_of_them else 1, name="x" * 900), 8000)))

    with RawNode(talk) as node:
        outcome = site("check", env=environment_for(node, site.data))
    assert "ok   history: 8,000 conferences, ended 2020-01-01T12:00:00" in outcome.stdout


def test_a_certificate_is_shown_in_a_line_whatever_its_names_hold(node: ManagementNode, collector: Site) -> None:
    node.certificate = certificates.self_signed(subject=NASTY.replace("\x00", ""))
    for words in ([], ["check"]):
        outcome = collector(*words)
        assert outcome.code == 1
        assert "does not verify" in outcome.output
        assert is_clean(outcome.output)


# What an answer leaves behind

FAR = "9999-12-31T23:59:59"


def test_records_that_end_in_9999_behind_a_limit_are_left_out_and_stop_nothing(site: Site) -> None:
    far = [{"id": f"far{n}", "end_time": FAR, "start_time": FAR, "name": "", "participants": []} for n in range(5)]

    def poisoned(document: dict[str, Any]) -> None:
        document["objects"] += far
        document["meta"]["total_count"] += len(far)

    site.env["DEFAULT_CONF_LIMIT"] = "2"
    site.hourly(3, MIDNIGHT - 3 * HOUR)
    site.node.faults.add(faults.edited(poisoned), on="conference", times=None)
    site.run(MIDNIGHT)
    site.node.faults.clear()
    for day in (1, 2):  # with its ledger, and with one that is made again from the files
        site.hourly(1, MIDNIGHT + day * DAY - 2 * HOUR)
        site.runs(MIDNIGHT + day * DAY, MIDNIGHT + day * DAY + 2 * HOUR)
        site.check()
        site.lose_ledger()
    site.run(MIDNIGHT + 3 * DAY)
    assert all(file["collected_to"] < "2027" for file in site.status()["files"])


def test_rows_of_9999_in_the_files_do_not_stop_a_ledger_that_is_made_of_them(site: Site) -> None:
    site.hourly(3, MIDNIGHT - 3 * HOUR)
    site.run(MIDNIGHT)
    odd = [FAR if name == "end_time" else "odd" if name == "id" else "" for name in site.table(CONF)[0]]
    with (site.data / CONF).open("a", newline="") as file:
        file.write(",".join(odd) + "\r\n")
    site.lose_ledger()
    site.hourly(3, MIDNIGHT + 20 * HOUR)
    site.run(MIDNIGHT + DAY)
    site.check(perhaps={"odd"})


def test_an_aggregate_that_an_attack_made_wide_is_still_appended_to(site: Site) -> None:
    known = ["id", "end_time", "name", "participants", "start_time"]
    (site.data / CONF).write_text(",".join([*known, *(f"f{n}" for n in range(2000))]) + "\r\n")
    site.hourly(3, MIDNIGHT - 3 * HOUR)
    site.run(MIDNIGHT)
    site.check()


def test_a_sign_in_of_oauth2_is_bounded_as_every_answer_is(site: Site) -> None:
    key = site.data.parent / "key.pem"
    key.write_bytes(OAuth2().add("client"))
    with RawNode(always(SMALL_BOMB, "Content-Encoding: gzip")) as node:
        client = {"DEFAULT_MGR_CLIENT_ID": "client", "DEFAULT_MGR_CLIENT_KEY_FILE": str(key)}
        outcome = site(env=environment_for(node, site.data) | client | {"DEFAULT_MGR_SECRET": None}, hurry=True)
    assert node.targets == ["/oauth/token/"]
    assert "answered more than 65,536 bytes at once" in outcome.stderr


def test_no_cookie_of_the_node_is_sent_back(site: Site) -> None:
    site.node.faults.add(faults.status(503, headers={"Set-Cookie": "a=b"}))
    site.run(MIDNIGHT, hurry=True)
    assert len(site.asked) > 1
    assert not [request for request in site.asked if "Cookie" in request.headers]


# Odd days


def test_the_draft_of_an_aggregate_on_another_volume_lies_beside_it(site: Site) -> None:
    with tempfile.TemporaryDirectory() as elsewhere:
        if Path(elsewhere).stat().st_dev == site.data.stat().st_dev:
            pytest.skip("no second volume here")
        site.hourly(3, MIDNIGHT - 3 * HOUR)
        site.run(MIDNIGHT)
        real = Path(elsewhere, "conferences.csv")
        shutil.move(site.data / CONF, real)
        (site.data / CONF).symlink_to(real)
        site.node.newer = {"mood": "good"}
        site.hourly(3, MIDNIGHT)
        site.run(MIDNIGHT + 3 * HOUR)
        assert [row["mood"] for row in site.rows(real)] == [""] * 3 + ["good"] * 3
        assert (site.data / CONF).is_symlink()
        assert [file.name for file in Path(elsewhere).iterdir()] == [real.name]


def test_a_schema_that_is_not_there_leaves_a_header_of_what_is_known(site: Site) -> None:
    site.node.faults.add(faults.status(404), when=lambda request: "schema" in request.path, times=None)
    site.run()
    assert site.table(CONF) == [["id", "end_time"]]


def test_times_with_a_zone_are_read_as_the_moments_that_they_are(site: Site) -> None:
    (id,) = site.hourly(1, MIDNIGHT - HOUR)
    zoned = faults.edited(lambda document: [one.update(end_time=one["end_time"] + "Z") for one in document["objects"]])
    site.node.faults.add(zoned, on="conference", times=None)
    assert "WARNING" not in site.run(MIDNIGHT).output
    assert [(row["id"], row["end_time"]) for row in site.rows(CONF)] == [(id, "2026-11-23T23:30:00Z")], "as it was sent"
    assert site.status()["files"][0]["collected_to"] == "2026-11-24T00:00:00"
