"""The files: what any reader gets back is what the node sent, whatever was sent and whatever changes.

Most tests hand the collector answers made by hand, so that every byte of a record is chosen here.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import duckdb
import pandas
import polars
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pexip_history.archive.aggregates import keys
from pexip_history.archive.staging import MOST, MOST_FIELDS, Stage
from pexip_history.errors import NodeError
from pexip_history.folder.cells import compact, encode
from pexip_history.folder.rewriting import sync_folder
from pexip_history.settings.environment import read_settings

from .harness import CONF, PART, STREAM, Site
from .management_node import ManagementNode, calls, conference, media_stream, participant
from .management_node.faults import Answer, Fault
from .management_node.server import Reply, Request

FIRST = datetime(2026, 11, 24, 0, 0, 20)
DAY = timedelta(days=1)
END = "2026-11-23T21:00:00"
BOM = b"\xef\xbb\xbf"
RISKY = ("=", "@", "\t", "\r", "+", "-")

Record = dict[str, Any]


class History(Site):
    """A data folder and a day a run; the node answers with the records that are given."""

    days = 0

    def collect(self, **named: Any) -> None:
        """The day's run; variables stay for those that follow."""
        self.env |= {name: value for name, value in named.items() if name.isupper()}
        self.run(FIRST + self.days * DAY, **{"fork": True} | named)
        self.days += 1

    def sent(self, records: Sequence[Record | str], page: int = 1000, *, ascii: bool = True, **named: Any) -> None:
        """The day's run brings these participants. A text is a record in JSON as it stands."""
        self.node.faults.clear()
        self.node.faults.add(answered(records, page, ascii), on="participant", times=None)
        self.collect(**named)

    def column(self, name: str, file: str | Path = PART) -> list[str]:
        return [row[name] for row in self.rows(file)]


def answered(records: Sequence[Record | str], page: int, ascii: bool) -> Fault:
    texts = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=ascii) for one in records]

    def fault(request: Request, answer: Answer) -> Reply:
        if request.path.endswith("/schema/") or "limit" not in request.query:  # or one at its own address
            return answer()
        offset, limit = int(request.query.get("offset", 0)), min(page, int(request.query["limit"]))
        after = offset + limit
        following = f"{request.path}?limit={limit}&offset={after}" if after < len(texts) else None
        meta = {"limit": limit, "offset": offset, "total_count": len(texts), "next": following}
        body = f'{{"meta": {json.dumps(meta)}, "objects": [{", ".join(texts[offset:after])}]}}'
        return Reply(200, {"Content-Type": "application/json"}, body.encode())

    return fault


@pytest.fixture
def history(site: Site) -> History:
    return History(site.data, site.env, site.node, site.forked)


def record(number: int | str, **fields: Any) -> Record:
    return {"end_time": END, "id": f"id-{number}", **fields}


# Quoting, line ends, values


def test_a_file_is_rfc_4180_in_utf_8_to_the_byte(history: History) -> None:
    history.sent(
        [
            record("a", flag=True, list=[1, {"k": '"é\n'}], n=None, t="1,2"),
            record("b", flag=False, list=[], n=0, t='say "hi"'),
            record("c", flag=None, list=None, n=-1.5, t="a\r\nb\rc\nd"),
            record("d", flag=True, list={}, n=7, t=" 山田 👩‍💻\t"),
        ],
        ascii=False,
    )
    wanted = (
        "end_time,id,flag,list,n,t\r\n"
        '2026-11-23T21:00:00,id-a,True,"[1,{""k"":""\\""é\\n""}]",,"1,2"\r\n'
        '2026-11-23T21:00:00,id-b,False,[],0,"say ""hi"""\r\n'
        '2026-11-23T21:00:00,id-c,,,-1.5,"a\r\nb\rc\nd"\r\n'
        "2026-11-23T21:00:00,id-d,True,{},7, 山田 👩‍💻\t\r\n"
    ).encode()
    quoted = wanted.replace(b",[],", b',"[]",').replace(b",{},", b',"{}",')  # as good, and as some pages are made
    for file in (history.dated(PART)[0], history.data / PART):
        assert file.read_bytes() in (wanted, quoted)


NUMBERS = ["0", "-7", "1800", "10000000000000000000000000000001", "-170141183460469231731687303715884105728",
           "0.0", "-0.5", "29.97", "0.30000000000000004", "1.7976931348623157e+308", "1.50", "1e-05"]  # fmt: skip
VALUES = {
    **{number: number for number in NUMBERS}, **{f"[ {number}]": f"[{number}]" for number in NUMBERS},
    "null": "", "true": "True", "false": "False", '""': "", "[]": "[]", '"text"': "text", '["-=1"]': '["-=1"]',
    '{"a": null, "b": [true]}': '{"a":null,"b":[true]}',
    r'[{"a": "say \"x,y\"", "b": [1.5, null, true]}]': r'[{"a":"say \"x,y\"","b":[1.5,null,true]}]',
    r'{"æ": "\n\r\t\\", "": []}': r'{"æ":"\n\r\t\\","":[]}',
    """[[[-1]], "=1+1", "😀", "'"]""": """[[[-1]],"=1+1","😀","'"]""",
}  # fmt: skip
"""JSON as the node sends it, and the cell: numbers as sent, nested values compact, a sign inside of JSON is data."""


@pytest.mark.parametrize("more", ["", ', "more": 2.50'])  # a record that is unlike the others
@pytest.mark.parametrize("page", [1, 5, 1000])  # a column of one type is made another way than one of several
def test_values_are_as_the_node_sent_them(history: History, page: int, more: str) -> None:
    values = [*VALUES, *["1", "true"] * 9]  # which are one to Python
    records = [f'{{"end_time": "{END}", "id": "{n}", "v": {json}}}' for n, json in enumerate(values)]
    history.sent([records[0][:-1] + more + "}", *records[1:]], page)
    assert history.column("v") == [*VALUES.values(), *["1", "True"] * 9]


def test_half_a_surrogate_pair_within_a_list_is_a_sign_of_its_own() -> None:
    assert encode(compact(["\ud83d é"])) == '["\ufffd é"]'.encode()


# Columns


def test_columns_are_the_nodes_in_the_nodes_order_and_every_file_has_the_header(collector: Site) -> None:
    held = conference(end_time="2026-11-23T21:00:00")
    one = participant(held, end_time="2026-11-23T21:00:00")
    collector.node.add([held], [one])
    collector.runs(FIRST, FIRST + DAY, DAY)  # the second is a day without a call
    lists = {"bucketed_call_quality", "historic_call_quality"}  # only one object's answer has these
    for kind, sent in (("Conf", held), ("Part", one)):
        header = sorted(sent.keys() - lists)
        for file in (*collector.dated(kind), collector.data / f"pexHistory{kind}.csv"):
            assert collector.table(file)[0] == header, file.name
        first, second = collector.dated(kind)
        assert (len(collector.table(first)), len(collector.table(second))) == (2, 1)
        assert second.read_bytes() == (",".join(header) + "\r\n").encode(), "the header alone"


def test_three_changes_of_the_fields_leave_every_value_under_its_name(history: History) -> None:
    history.sent([record(1, alpha="a1", zulu="z1")])
    history.sent([record(2, alpha="a2", mike="m2", zulu="z2")])  # added in the middle of the alphabet
    history.sent([record(3, mike="m3", zulu="z3")])  # one dropped
    history.sent([record(4, alpha="a4", beta='b,"4"', mike="m4")])  # another dropped, the first back, a new one
    header = ["end_time", "id", "alpha", "zulu", "mike", "beta"]
    assert history.table(PART) == [
        header,
        [END, "id-1", "a1", "z1", "", ""],
        [END, "id-2", "a2", "z2", "m2", ""],
        [END, "id-3", "", "z3", "m3", ""],
        [END, "id-4", "a4", "", "m4", 'b,"4"'],
    ]
    assert [history.table(file)[0] for file in history.dated(PART)] == [header[:4], header[:5], header[:5], header]
    log = history.log()
    assert f"{PART} got the new columns mike" in log
    assert f"{PART} got the new columns beta" in log


def test_a_field_that_is_new_midway_through_a_run_is_a_column_of_all_its_rows(history: History) -> None:
    old = [record(number, name='a\r\n"b", c') for number in range(6)]
    new = [record(number, alpha=[number], name="d") for number in range(6, 9)]
    history.sent([*old, *new], page=4)
    header, *rows = history.table(history.dated(PART)[0])
    assert header == ["end_time", "id", "name", "alpha"]
    assert [row[2:] for row in rows] == [['a\r\n"b", c', ""]] * 6 + [["d", f"[{n}]"] for n in range(6, 9)]
    assert history.table(PART) == [header, *rows]


def test_rows_go_under_their_names_where_the_user_moved_columns_and_saved_other_bytes_while_some_waited(
    history: History,
) -> None:
    history.sent([record(1, alpha="a1", zulu="z1")])
    history.sent([record(2, alpha="a2", zulu="z2")], fault="EACCES", at=PART, code=1)
    edited = "zulu,mine,id,end_time,alpha\r\nZ1,kept,id-1,2026-11-23T21:00:00,bl\u00e5\r\n".encode("latin-1")
    (history.data / PART).write_bytes(edited)
    history.sent([record(3, alpha="a3", beta="b3", zulu="z3")])
    assert (history.data / PART).read_bytes().splitlines() == [
        b"zulu,mine,id,end_time,alpha,beta",
        b"Z1,kept,id-1,2026-11-23T21:00:00,bl\xe5,",
        b"z2,,id-2,2026-11-23T21:00:00,a2,",
        b"z3,,id-3,2026-11-23T21:00:00,a3,b3",
    ]


def test_a_field_name_is_quoted_as_any_text_is(history: History) -> None:
    names = ["a,b", 'say "x"', "line\nend", "=1", " spaced ", "æøå"]
    history.sent([record(1, **dict.fromkeys(names, "v"))])
    assert history.table(PART)[0] == ["end_time", "id", *("'=1" if name == "=1" else name for name in names)]


def test_what_no_file_of_ours_may_hold_is_refused_as_it_is_written(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "x", ["id"], read_settings({}, node=False))
    stage.write({"id": ["x" * (MOST - 2)]})
    with pytest.raises(NodeError, match="8 MB"):
        stage.write({"id": ["1", "x" * (MOST + 1)]})
    stage.grow([str(number) for number in range(MOST_FIELDS - 1)])
    with pytest.raises(NodeError, match=f"{MOST_FIELDS + 1}"):
        stage.grow(["one more"])
    stage.grow([])  # a user's aggregate may have more


# Formulas

RUN = ["=1+1", "=", "@SUM(A1)", "@", "\tx", "\t", "\rx", "\r\n1", "+1+1", "-2+3", "--", "-name", "+cmd|' /C calc'!A0",
       "-=1", "+=1", "- 1+1", "+A1", "-1e", "-1\n", "+47 22 33 44 55\n", "-١"]  # fmt: skip
DATA = ["+47 22 33 44 55", "+4722334455", "+1 (555) 123-4567", "+47 22.33.44.55", "-12.5", "-1", "+1", "-.5", "-1e-5",
        "-", "", "a=b", "a-b", "x@y", "'x", "1+1", "(1)", "[1]", "\u2212x", "0047"]  # fmt: skip


# What begins a cell only for some programs: where `;`, `|` or a tab separates, a line ends, or blanks are passed over.
PLACES = {
    " =x": "' =x", "\u00a0=x": "'\u00a0=x", "\u3000@x": "'\u3000@x", "\ufeff=x": "'\ufeff=x", "\u200b+x": "'\u200b+x",
    "\uff1d1": "'\uff1d1", "\uff0b\uff21": "'\uff0b\uff21", "\uff0d1x": "'\uff0d1x", "\uff20x": "'\uff20x",
    "\n=x": "'\n'=x",
    ";=cmd|'/c calc'!A0;": ";'=cmd|'/c calc'!A0;", "a; =1": "a;' =1", "a\t=1": "a\t'=1", "a\r\n-x": "a\r\n'-x",
    "|=1+1": "|'=1+1", "a|@x|-5|b": "a|'@x|-5|b", "a|\"+x": "a|'\"+x", "a|;=1": "a|;'=1", "a | b": "a | b",
    'a;"=1"': "a;'\"=1\"", "a; b": "a; b", "Win64; x64": "Win64; x64", "a; -5": "a; -5",
}  # fmt: skip


GUARDED = {text: f"'{text}" for text in RUN} | {text: text for text in DATA} | PLACES


@pytest.mark.parametrize("mixed", [False, True])
def test_a_text_that_a_program_would_run_gets_an_apostrophe_and_nothing_else_does(
    history: History, mixed: bool
) -> None:
    """Ids, numbers and nested values keep their signs."""
    last = [record("last", t=[1])] if mixed else []  # a column of several types is made another way
    keys = [{"id": "=1", "end_time": END, "n": -5, "j": ["=1+1", "-x"]}]
    history.sent([*(record(n, t=text, u=text) for n, text in enumerate(GUARDED)), *keys, *last])
    for name in ("t", "u"):
        assert history.column(name)[: len(GUARDED)] == list(GUARDED.values())
    signed = history.rows(PART)[len(GUARDED)]
    assert (signed["id"], signed["n"], signed["j"]) == ("=1", "-5", '["=1+1","-x"]')


def test_without_the_guard_every_text_is_as_it_was_sent(history: History) -> None:
    history.sent([record(n, t=text) for n, text in enumerate(GUARDED)], DATA_CSV_ESCAPE_FORMULAS="false")
    assert history.column("t") == list(GUARDED)


# Byte order mark, streams


def test_the_byte_order_mark_comes_to_the_aggregates_when_it_is_switched_on_and_stays(history: History) -> None:
    history.sent([record(1, name="é\n")])
    before = history.files()
    for number, mark in ((2, "true"), (3, "true"), (4, "false")):
        history.sent([record(number, name="ø")], DATA_CSV_BOM=mark)
        for name in (CONF, PART):
            content = (history.data / name).read_bytes()
            assert content.startswith(BOM + before[name])
            assert content.count(BOM) == 1
    assert history.column("name") == ["é\n", "ø", "ø", "ø"]
    assert [file.read_bytes().count(BOM) for file in history.dated(PART)] == [0, 1, 1, 0]
    assert history.log().count("got a byte order mark (DATA_CSV_BOM)") == 2, "each aggregate once"


def test_streams_switched_on_later_begin_with_the_participants_collected_then(collector: Site) -> None:
    days = [list(calls(seed=22, day=date(2026, 11, 23) + n * DAY, conferences=6)) for n in range(3)]
    collector.node.load([call for day in days for call in day])
    collector.run(FIRST)
    before = set(collector.ids(PART))
    collector.runs(FIRST + DAY, FIRST + 2 * DAY, DAY, DATA_MEDIA_STREAMS="true")
    new = set(collector.ids(PART)) - before
    present = [one for day in days for _, some in day for one in some if one["id"] in new]
    rows = sorted((row["participant_id"], row["id"]) for row in collector.rows(STREAM))
    assert rows == sorted((one["id"], str(stream["id"])) for one in present for stream in one["media_streams"]) > []
    assert collector.table(STREAM)[0][0] == "participant_id"
    assert len(set(keys(collector.data / STREAM, "stream"))) == len(rows), "no two have the same"
    assert len(collector.dated(STREAM)) == 2
    assert f"{STREAM} begins; streams of participants collected before are not in it" in collector.log()


def test_a_day_without_a_stream_has_the_header_alone(history: History) -> None:
    history.collect(DATA_MEDIA_STREAMS="true")
    stream = media_stream(participant(conference()), tx_codec="=cmd")
    history.sent([record(1, media_streams=[stream])])
    history.sent([])
    first, second, third = (history.table(file) for file in history.dated("Stream"))
    assert first == [["participant_id"]]
    assert second[0] == third[0] == ["participant_id", *stream]
    assert (len(second), len(third)) == (2, 1)
    assert second[1][second[0].index("tx_codec")] == "'=cmd"


# Keeping, permissions


def test_dated_files_go_after_the_days_that_were_asked_for_and_nothing_else_does(history: History) -> None:
    """One that cannot be removed costs a warning and not the run."""
    stays = f"2026-11-20_00-00-20_{PART}"
    (history.data / stays).mkdir()
    others = ["2020-01-01_00-00-00_pexHistoryConf.csv.bak", "2020-01-01_pexHistoryConf.csv", "x.csv",
              "2020-01-01_00-00-00_pexHistoryOther.csv"]  # fmt: skip
    for name in others:
        (history.data / name).write_text("mine")
    for _ in range(5):
        history.sent([record(history.days)], DATA_KEEP_DAYS="2", TZ="Pacific/Honolulu")
    kept = [f"2026-11-{day}_14-00-20_{PART}" for day in (25, 26, 27)]  # two days old is not older than two days
    assert [file.name for file in history.dated(PART)] == [stays, *kept]
    assert f"{stays} cannot be removed" in history.log()
    assert {file.name for file in history.data.iterdir()} > set(others)
    assert history.column("id") == [f"id-{number}" for number in range(5)]


@pytest.mark.parametrize(("umask", "mode"), [(None, 0o640), ("077", 0o600), ("0022", 0o644)])
def test_files_have_the_permissions_that_umask_leaves_and_an_aggregate_those_that_the_user_gave_it(
    history: History, umask: str | None, mode: int
) -> None:
    history.sent([record(1)], **({"UMASK": umask} if umask else {}))
    (history.data / PART).chmod(0o666)
    history.sent([record(2, new=1)])
    modes = {path.name: path.stat().st_mode & 0o777 for path in history.data.rglob("*") if path.is_file()}
    assert "new" in history.table(PART)[0]
    assert modes.pop(PART) == 0o666
    assert set(modes.values()) == {mode}, modes


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_share_that_cannot_sync_a_folder_is_collected_into_and_a_broken_disk_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(number, "refused")))
    with pytest.raises(OSError, match="refused") if number == errno.EIO else nullcontext():
        sync_folder(tmp_path)
    assert sorted(Path("/proc/self/fd").iterdir()) == before, "nothing stays open"


# Readers


def by_pandas(files: Sequence[Path]) -> list[Any]:
    tables = [pandas.read_csv(file, dtype=str, keep_default_na=False) for file in files]
    return pandas.concat(tables).fillna("").to_dict("records")


def by_polars(files: Sequence[Path]) -> list[Any]:
    tables = [polars.read_csv(file, infer_schema=False) for file in files]
    return polars.concat(tables, how="diagonal").fill_null("").to_dicts()


def by_duckdb(files: Sequence[Path]) -> list[Any]:
    names = [str(file) for file in files]
    table = duckdb.read_csv(
        names,  # type: ignore[arg-type]
        all_varchar=True,
        header=True,
        union_by_name=True,
        quotechar='"',  # of few rows it might take an apostrophe for one
    )
    return [{name: text or "" for name, text in zip(table.columns, row, strict=True)} for row in table.fetchall()]


def test_times_are_times_to_every_reader(collector: Site) -> None:
    collector.node.load(calls(seed=1, day=date(2026, 11, 23), conferences=25))
    collector.run(FIRST)
    path = collector.data / PART
    wanted = [datetime.fromisoformat(row["end_time"]) for row in collector.rows(PART)]
    assert {bool(time.microsecond) for time in wanted} == {True, False}
    by_sql = duckdb.sql(f"SELECT end_time FROM read_csv('{path}')").fetchall()
    assert [time for (time,) in by_sql] == wanted
    assert polars.read_csv(path, try_parse_dates=True)["end_time"].to_list() == wanted
    frame = pandas.read_csv(path, parse_dates=["end_time"], date_format="ISO8601")
    assert frame["end_time"].dt.to_pydatetime().tolist() == wanted


text = st.one_of(
    st.text(st.characters(), max_size=8),  # half surrogate pairs and NUL among them
    st.text(st.sampled_from("=+-@'\"\r\n,;\t 1a\0\ud83d\ude00é\ufeff\u2028\u0085"), max_size=6),
)
plain = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**40), 10**40), st.floats(allow_nan=False, allow_infinity=False), text
)
nested = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=5
)
names = st.sampled_from(["aaa", "alpha", "av_id", "display_name", "media_streams", "newer", "zeta", "æøå"])
days = st.lists(  # each day: its records' fields, the node's page size, whether its JSON is ASCII
    st.tuples(
        st.lists(st.dictionaries(names, text | nested, max_size=6), max_size=7), st.integers(1, 4), st.booleans()
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(days=days, guarded=st.booleans())
def test_whatever_the_node_sends_is_what_every_reader_gets_back(site: Site, days: list[Any], guarded: bool) -> None:
    numbers, sent = count(), []
    shutil.rmtree(site.data)
    site.node.renew()
    history = History(site.data, site.env, site.node, site.forked)
    for rows, page, ascii in days:
        end = (FIRST + history.days * DAY - timedelta(hours=3)).isoformat()
        records = [{**row, "end_time": end, "id": f"id-{next(numbers)}"} for row in rows]
        history.sent(records, page, ascii=ascii or halved(records), DATA_CSV_ESCAPE_FORMULAS=str(guarded).lower())
        sent.append(records)
    for file, records in zip(history.dated(PART), sent, strict=True):
        rows = history.rows(file)
        assert len(rows) == len(records)
        for row, one in zip(rows, records, strict=True):
            assert row.keys() >= one.keys()
            for name, cell in row.items():
                assert came_back(cell, whole(one.get(name)), guarded), (name, cell, one.get(name))
    rows, header = history.rows(PART), history.table(PART)[0]
    of_the_days = [row for file in history.dated(PART) for row in history.rows(file)]
    assert rows == [{name: row.get(name, "") for name in header} for row in of_the_days]
    for read in (by_pandas, by_polars, by_duckdb):
        assert read([history.data / PART]) == read(history.dated(PART)) == rows


def halved(value: object) -> bool:
    """Whether half of a surrogate pair is in it, which JSON can hold as ASCII alone."""
    return any("\ud800" <= character <= "\udfff" for character in json.dumps(value, ensure_ascii=False))


def whole(value: Any) -> Any:
    """Half of a surrogate pair is no character: U+FFFD stands for it in a file."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [whole(one) for one in value]
    return {whole(key): whole(one) for key, one in value.items()} if isinstance(value, dict) else value


def came_back(cell: str, value: Any, guarded: bool) -> bool:
    if value is None:
        return cell == ""
    if isinstance(value, str):
        must = guarded and value.startswith(RISKY[:4])
        added = len(cell) > len(value) and cell.replace("'", "") == value.replace("'", "")
        return (cell == value and not must) or (guarded and added)
    if isinstance(value, float):
        return float(cell) == value
    return bool(whole(json.loads(cell)) == value) if isinstance(value, (list, dict)) else cell == str(value)


# Widening


@pytest.mark.slow
def test_widening_a_large_aggregate_takes_no_memory_to_speak_of(node: ManagementNode, collector: Site) -> None:
    node.add([conference(end_time="2026-11-23T20:00:00")])
    small = collector.run(FIRST, fork=True).peak
    path = collector.data / CONF
    header, row = path.read_bytes().splitlines(keepends=True)
    number = 40_000_000 // len(row)
    with path.open("ab") as file:
        file.write(row * number)
    node.extra_fields = {"conference": {"added": "x"}}
    node.add([conference(end_time="2026-11-24T20:00:00")])
    assert collector.run(FIRST + DAY, fork=True).peak < small + 15_000_000
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 1 + number + 1
    assert lines[0] == header.replace(b"\r\n", b",added\r\n")
    assert lines[1] == lines[-2] == row.replace(b"\r\n", b",\r\n").replace(b'"[]"', b"[]")
    assert lines[-1].endswith(b",x\r\n")
