"""check, status and health: what they say, and by which exit code."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import pytest
import time_machine

from collector import main
from pexip_history import __version__
from pexip_history.archive.archive import Archive
from pexip_history.errors import CollectorError, Stopped
from pexip_history.export.wanted import Wanted
from pexip_history.folder.opening import NotAFile
from pexip_history.operate import check, export_command, log, process, report_page, running
from pexip_history.operate import health as operate
from pexip_history.operate.arguments import COMMANDS, parse
from pexip_history.operate.export_command import default_name
from pexip_history.operate.status import Writing, completeness, peek
from pexip_history.run.run import Run
from pexip_history.run.saying import Progress
from pexip_history.settings.environment import SECRETS, Settings, read_settings
from pexip_history.values import format_time, parse_time
from tests.harness import COLLECTOR, Site
from tests.management_node import ManagementNode, OAuth2, calls, certificates, faults
from tests.privileged import in_child, open_to_all, others_may_enter

DAY = date(2026, 11, 23)
MIDNIGHT = datetime(2026, 11, 24, 0, 0, 20)


def test_version_is_one_word_and_the_user_agents(node: ManagementNode, collector: Site) -> None:
    outcome = collector("--version")
    assert (outcome.code, outcome.stdout) == (0, f"{__version__}\n")
    assert collector().code == 0
    assert node.requests[0].headers["User-Agent"].endswith(f"/{__version__}")


def test_help_says_of_each_command_what_it_does_and_needs_no_setting(site: Site) -> None:
    """As it is written: the first letter of a sentence alone is made a capital."""
    site.env = {}
    text = site("--help").stdout
    assert "collector.py collect --from 2026-11-01" in text
    for command, said in COMMANDS.items():
        assert re.search(rf"^ +{command} +\w+ \w+", text, re.MULTILINE)
        help = site(command, "--help")
        assert help.code == 0
        assert f"{said[0].upper()}{said[1:]}." in " ".join(help.stdout.split()), command


# check

LABELS = ["settings", "name", "TLS", "credentials", "history", "clock", "data folder", "schedule"]


def lines_of(output: str) -> dict[str, str]:
    """What check says of each thing, by its label: `ok ...`, `info ...`, `warn ...` or `FAIL ...`."""
    found = {}
    for line in output.splitlines():
        match = re.fullmatch(r"(ok  |info|warn|FAIL) ([\w ]+): (.+)", line)
        assert match, line
        found[match[2]] = f"{match[1].strip()} {match[3]}"
    return found


def test_check_has_a_line_for_each_thing_that_must_hold(node: ManagementNode, collector: Site) -> None:
    node.max_limit, node.tells_time = 500, True
    node.load(calls(seed=1, day=DAY, conferences=10))
    collector.at(MIDNIGHT)
    collector.env |= {"DATA_CRON_TIME": "5 0 * * *", "TZ": "Europe/Oslo"}
    outcome = collector("check")
    assert (outcome.code, outcome.stderr) == (0, "")
    found = lines_of(outcome.stdout)
    assert list(found) == LABELS
    assert all(text.startswith("ok ") for text in found.values())
    assert node.certificate.fingerprint in found["TLS"]
    assert "valid until" in found["TLS"]
    assert "admin" in found["credentials"]
    assert "10 conferences, ended 2026-11-23T00:00:00 to 2026-11-23T23:59:59.999999 UTC" in found["history"]
    assert "at most 500 a page" in found["history"]
    assert "GB free" in found["data folder"]
    assert "At 00:05 every day" in found["schedule"]
    assert "2026-11-25 00:05, 2026-11-26 00:05, 2026-11-27 00:05 (Europe/Oslo)" in found["schedule"]
    assert "\033" not in outcome.stdout, "colours on a terminal only"
    assert collector.files() == {}
    assert len({request.headers["Authorization"] for request in node.requests}) == 1


@pytest.mark.parametrize(
    ("env", "behaviour", "forbids", "label", "says"),
    [
        ({"DEFAULT_MGR_ADDRESS": "no-such-host.invalid"}, {}, None, "name", "check DEFAULT_MGR_ADDRESS"),
        ({"DEFAULT_MGR_ADDRESS": "127.0.0.1:9"}, {}, None, "TLS", "127.0.0.1:9: the connection was refused; check"),
        ({}, {"certificate": certificates.expired()}, None, "TLS", "expired"),
        ({"DEFAULT_MGR_TLS_FINGERPRINT": "ab" * 32, "DEFAULT_MGR_CA_FILE": ""}, {}, None, "TLS", "TLS_FINGERPRINT"),
        ({}, {"secret": "another"}, None, "credentials", "check DEFAULT_MGR_USERNAME (admin) and DEFAULT_MGR_SECRET"),
        ({}, {}, "", "credentials", "may not read the history"),
        ({}, {}, "participant", "credentials", "may not read the history"),
        ({"DATA_DIR": str(COLLECTOR)}, {}, None, "data folder", "DATA_DIR"),
    ],
)
def test_check_says_how_to_fix_what_does_not_hold(
    node: ManagementNode,
    collector: Site,
    env: dict[str, str],
    behaviour: dict[str, Any],
    forbids: str | None,
    label: str,
    says: str,
) -> None:
    for name, value in behaviour.items():
        setattr(node, name, value)
    if forbids is not None:
        node.faults.add(faults.status(403), on=forbids, times=None)
    outcome = collector("check", env=env)
    assert (outcome.code, outcome.stderr) == (1, "")
    found = lines_of(outcome.stdout)
    failing = {name: text for name, text in found.items() if text.startswith("FAIL ")}
    assert list(failing) == [label]
    assert says in failing[label]
    assert {"settings", "data folder", "schedule"} <= found.keys(), "what needs no node is looked at all the same"
    assert collector.env["DEFAULT_MGR_SECRET"] not in outcome.output
    assert [request.status for request in node.requests].count(401) <= 1, "a wrong password is sent once"


def test_check_calls_ok_only_what_was_tried_and_found_so(node: ManagementNode, collector: Site) -> None:
    node.tells_time = False
    del collector.env["DEFAULT_MGR_CA_FILE"]
    collector.env |= {"DEFAULT_MGR_TLS_VERIFY": "false", "DATA_PING_URL": "http://127.0.0.1:9/ping/x"}
    outcome = collector("check")
    assert outcome.code == 0, "a run would go well"
    found = lines_of(outcome.stdout)
    assert found["TLS"].startswith("warn not verified (DEFAULT_MGR_TLS_VERIFY=false): anyone in between can read")
    assert node.certificate.fingerprint in found["TLS"]
    assert found["clock"] == "info the node does not tell its time"
    assert found["schedule"].startswith("info none (DATA_CRON_TIME is not set)")
    assert found["told of failures"].startswith("info DATA_PING_URL (127.0.0.1:9); not tried")
    tried = collector("check", "--notify")
    assert tried.code == 1
    assert tried.stdout.splitlines()[-1] == "FAIL DATA_PING_URL (127.0.0.1:9): the connection was refused"
    by_message = collector("check", env={"DATA_PING_URL": None, "DATA_NOTIFY_URLS": "json://hook"})
    assert lines_of(by_message.stdout)["told of failures"].startswith("info DATA_NOTIFY_URLS 1 (json hook); not tried")
    nobody = collector("check", "--notify", env={"DATA_PING_URL": None})
    assert nobody.code == 1
    assert lines_of(nobody.stdout)["told of failures"].startswith("FAIL nobody; set DATA_PING_URL")


@pytest.mark.parametrize(
    ("free", "mounted", "says"),
    [
        (99_999_999, True, "FAIL .*, only 100 MB free; free some space"),
        (100_000_000, True, "warn .*, only 100 MB free; free some space"),
        (999_999_999, True, "warn .*, only 1000 MB free; free some space"),
        (1_000_000_000, True, "ok .*, 1.0 GB free$"),
        (1_000_000_000, False, "warn .*, 1.0 GB free; NOT a mount"),
        (None, True, "FAIL .*free some space"),
    ],
)
def test_check_calls_no_folder_ok_that_has_no_space_or_is_gone_with_the_container(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    free: int | None,
    mounted: bool,
    says: str,
) -> None:
    """None: it is full, which shows when it is written to."""

    def sync(descriptor: int) -> None:
        assert Path(f"/proc/self/fd/{descriptor}").readlink() == tmp_path / "data" / ".collector" / "probe"
        assert os.fstat(descriptor).st_size == check.PROBE
        if free is None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    monkeypatch.setattr(check, "is_mount", lambda folder: mounted)
    settings = read_settings({"DEFAULT_MGR_ADDRESS": "127.0.0.1:9", "DATA_DIR": str(tmp_path / "data")}, node=False)
    assert check.check(settings) == 1, "no node is there"
    assert re.match(says, lines_of(capsys.readouterr().out)["data folder"])
    assert not (tmp_path / "data" / ".collector" / "probe").exists()


def test_marks_have_their_colours_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    colours = ((check.OK, 32), (check.INFO, 36), (check.WARN, 33), (check.FAIL, 31))
    for mark, colour, where in (*((mark, colour, None) for mark, colour in colours), (check.OK, 0, sys.stderr)):
        check._say("name", mark, "it is so", where)  # private: what a terminal shows cannot be seen from outside
        shown = f"\033[{colour}m{mark:<4}\033[0m" if colour else f"{mark:<4}"
        assert "".join(capsys.readouterr()) == f"{shown} name: it is so\n"


def started(collector: Site, **settings: str) -> str:
    """A container that schedules runs starts with these settings: what its log says."""
    outcome = collector("check", "--at-start", env=settings)
    assert (outcome.code, outcome.stdout) == (0, "")
    return outcome.stderr


def of_the_container(collector: Site) -> str:
    """What check says of the one that is running."""
    return lines_of(collector("check").stdout)["container"]


PING = "http://127.0.0.1:9/ping/s3cret"
SAME = "ok the one that was started .* has these settings"
OTHER, APPLY = "warn the one that was started .* runs with other settings: ", r"\. docker compose up -d applies these"


@pytest.mark.parametrize(
    ("there", "here", "says"),
    [
        ({"TZ": "Europe/Oslo"}, {"TZ": "Europe/Oslo"}, SAME),
        (
            {"DATA_CRON_TIME": "@daily"},
            {"DATA_CRON_TIME": "@weekly"},
            rf"{OTHER}DATA_CRON_TIME \('@daily', here '@weekly'\){APPLY}",
        ),
        ({"DEFAULT_CONF_LIMIT": "10"}, {}, rf"{OTHER}DEFAULT_CONF_LIMIT \('10', here not set\){APPLY}"),
        ({}, {"TZ": "Europe/Oslo"}, rf"{OTHER}TZ \(not set, here 'Europe/Oslo'\){APPLY}"),
        (
            {"DATA_PING_URL": PING},
            {"DATA_PING_URL": PING},
            "info .* has these settings; DATA_PING_URL cannot be seen from here.*",
        ),
    ],
)
def test_check_names_what_the_running_container_has_otherwise(
    collector: Site, tmp_path: Path, there: dict[str, str], here: dict[str, str], says: str
) -> None:
    """The new settings are right; they are not yet the container's. That a secret is the same cannot be known."""
    assert "container" not in lines_of(collector("check").stdout)
    (tmp_path / "secret").write_text(secret := collector.env.pop("DEFAULT_MGR_SECRET"))
    collector.env["DEFAULT_MGR_SECRET_FILE"] = str(tmp_path / "secret")
    started(collector, **there)
    collector.env |= here
    outcome = collector("check")
    assert outcome.code == 0
    assert re.fullmatch(says, lines_of(outcome.stdout)["container"])
    collector("collect")
    assert of_the_container(collector) == lines_of(outcome.stdout)["container"], "a run leaves the note where it is"
    [note] = (collector.data / ".collector").glob("container/settings.json")
    assert not re.search(f"s3cret|{secret}", note.read_text())


def test_a_file_that_was_replaced_is_named_where_it_is_mounted_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, points = tmp_path / "secret", set[str]()
    environ = {"DEFAULT_MGR_SECRET_FILE": str(secret), "DATA_PING_URL": "http://127.0.0.1:9/"}
    monkeypatch.setattr(running, "mount_points", lambda: points)
    secret.write_text("one")

    def others(environ: dict[str, str] = environ) -> list[str]:
        found = running.differences(tmp_path, environ)
        assert found
        assert found[2] == [name for name in environ if name == "DATA_PING_URL"], "nobody can compare it"
        return found[1]

    running.note(tmp_path, environ)
    points.add(str(secret))
    assert others() == []
    assert others({"DEFAULT_MGR_SECRET_FILE": str(secret)}) == ["DATA_PING_URL ('set', here not set)"]
    running.note(tmp_path, environ)
    (tmp_path / "new").write_text("two")
    (tmp_path / "new").replace(secret)
    assert others() == ["DEFAULT_MGR_SECRET_FILE (the file was replaced, the container still has the old one)"]
    points.clear()
    running.note(tmp_path, environ)
    note = tmp_path / running.PLACE / running.NOTE
    assert json.loads(note.read_text())["files"] == {}
    note.write_text(note.read_text().replace(__version__, "0.9"))
    assert others() == [f"version '0.9', here {__version__}"]
    assert [text[:7] for text in others({"DEFAULT_MGR_SECRET_FILE": str(secret)})] == ["version", "DATA_PI"]


def test_a_container_that_stops_takes_its_note_away_and_follows_no_link(tmp_path: Path) -> None:
    place, elsewhere, opened = tmp_path / running.PLACE, tmp_path / "elsewhere", sorted(Path("/proc/self/fd").iterdir())
    running.note(tmp_path, {})
    running.forget(tmp_path)
    assert not (place / running.NOTE).exists()
    place.rename(elsewhere)
    (elsewhere / running.NOTE).touch()
    place.symlink_to(elsewhere)
    running.forget(tmp_path)
    assert (elsewhere / running.NOTE).exists()
    assert sorted(Path("/proc/self/fd").iterdir()) == opened


def test_of_a_container_that_starts_the_first_thing_that_is_wrong_is_noted_and_what_is_next_begins_at_the_last_covered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, found = read_settings({"DATA_DIR": str(tmp_path)}, node=False), [("history", check.OK, "2 conferences")]
    monkeypatch.setattr(check, "rows", lambda settings, notify: found)
    monkeypatch.setattr(check, "peek", lambda settings: {"coverage": [["a", "b"], ["c", "d"]]})
    check.at_start(settings)
    assert "The node has 2 conferences\nThe next run collects what is new since d UTC, and" in capsys.readouterr().err
    found += [("name", check.FAIL, "it is not known"), ("data folder", check.FAIL, "it is full")]
    check.at_start(settings)
    assert (running.failure(tmp_path) or "")[1] == "name: it is not known"


@pytest.mark.parametrize(
    "held",
    [
        b"",
        b"[1]",
        b'{"started": 1}',
        json.dumps({"started": "", "version": "9" * 70_000, "settings": {}, "files": {}}).encode(),
        b'{"a":' * 9000,
        b"\xff\x00",
    ],
)
def test_a_strangers_note_of_a_container_is_a_message_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bytes
) -> None:
    running.note(tmp_path, {})
    note = tmp_path / running.PLACE / running.NOTE
    note.write_bytes(held)
    with pytest.raises(CollectorError, match="is damaged; docker compose up -d --force-recreate writes it again"):
        running.differences(tmp_path, {})
    (note.parent / running.FAILURE).write_bytes(held)
    assert bool(running.failure(tmp_path)) == bool(held)
    note.write_text(json.dumps({"started": "", "version": "9" * 60_000, "settings": {}, "files": {}}))
    assert len(str(running.differences(tmp_path, {}))) < 1000


def test_a_link_in_place_of_the_note_is_a_message_and_no_more(collector: Site, tmp_path: Path) -> None:
    (tmp_path / ".collector").symlink_to(collector.data)
    with pytest.raises(CollectorError, match="is a symbolic link"):
        running.note(tmp_path, {})
    started(collector)
    [note] = (collector.data / ".collector").glob("container/settings.json")
    note.unlink()
    note.symlink_to("/etc/passwd")
    assert "is a symbolic link" in of_the_container(collector)
    assert "settings.json is a symbolic link" in started(collector)
    shutil.rmtree(note.parent)
    note.parent.touch()
    assert started(collector).startswith(f"warn container: {note.parent} is a file"), "no note, and that is said"


def test_a_container_says_at_its_start_which_node_and_what_the_first_run_will_do(
    node: ManagementNode, collector: Site
) -> None:
    node.load(calls(seed=1, day=DAY, conferences=10))
    collector.at(MIDNIGHT)
    said = started(collector).splitlines()
    assert said[0] == f"Version {__version__} of the collector, for {node.address}"
    assert said[1].startswith("The node has 10 conferences, ended 2026-11-23T00:00:00 to ")
    assert said[2].startswith("The first run collects the day before it")
    node.faults.add(faults.status(403))
    collector("collect")
    after = "The next run collects what is new{}, and what is missing before that"
    assert started(collector).splitlines()[-1] == after.format("")
    collector("collect")
    assert started(collector).splitlines()[-1] == after.format(" since 2026-11-24T00:00:00 UTC")


def test_a_failed_check_at_the_start_stops_nothing(node: ManagementNode, collector: Site) -> None:
    node.secret = "another"
    said = started(collector)
    assert "FAIL credentials: " in said
    assert said.endswith("The container goes on, and its runs will try.\n")
    unhealthy = collector("health")
    assert unhealthy.code == 1
    assert "credentials: " in unhealthy.stdout


# status


def test_status_before_the_first_run_changes_nothing(collector: Site) -> None:
    outcome = collector("status")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert "none yet" in outcome.stdout
    told = json.loads(collector("status", "--json").stdout)
    assert told.pop("version") == __version__
    assert not any(told.values()), "nothing is known: empty, 0 or null"
    assert list(collector.data.iterdir()) == []


def test_status_tells_runs_files_and_what_is_next(node: ManagementNode, collector: Site) -> None:
    node.load(calls(seed=2, day=DAY, conferences=10))
    collector.env["DATA_CRON_TIME"] = "5 0 * * *"
    collector.at(MIDNIGHT)
    assert collector().code == 0
    collector.at(MIDNIGHT + timedelta(hours=3))
    node.faults.add(faults.status(403))
    assert collector().code == 1
    report = json.loads(collector("status", "--json").stdout)
    failed, done = report["runs"]
    assert (failed["outcome"], done["outcome"]) == ("failed", "done")
    assert "answered 403" in failed["message"]
    rows = {name: len(collector.rows(name)) for name in ("pexHistoryConf.csv", "pexHistoryPart.csv")}
    assert (done["conferences"], done["participants"]) == tuple(rows.values())
    assert (done["window_start"], done["window_end"]) == ("2026-11-23T00:00:00", "2026-11-24T00:00:00")
    assert {file["file"]: file["rows"] for file in report["files"]} == rows
    assert all(file["bytes"] == (collector.data / file["file"]).stat().st_size for file in report["files"])
    assert report["next_run"] == "2026-11-25T00:05:00" or report["next_run"] == "2026-11-24T00:05:00"
    assert (report["staged"], report["version"]) == (0, __version__)
    text = collector("status").stdout
    assert text.index("answered 403") < text.index("10 conferences"), "newest first"
    for words in ("pexHistoryConf.csv", "Next run: ", "window   2026-11-23T00:00:00 to 2026-11-24T00:00:00"):
        assert words in text
    (collector.data / "pexHistoryConf.csv").unlink()
    assert re.search(r"pexHistoryConf.csv +10 rows .*, the file is gone", collector("status").stdout)
    with closing(sqlite3.connect(collector.data / ".collector" / "ledger.sqlite")) as ledger, ledger:
        more = [(f"2026-11-24T04:{n:02}:00",) for n in range(40)]
        ledger.executemany("INSERT INTO run (started, outcome) VALUES (?, 'done')", more)
    assert len(collector.status()["runs"]) == 30
    assert collector("status").stdout.count("  done ") == 10


@pytest.mark.parametrize("locks", [(True, False), (False, True)])
def test_a_run_that_begins_or_ends_while_its_row_is_read_was_not_killed(
    collector: Site, monkeypatch: pytest.MonkeyPatch, locks: tuple[bool, bool]
) -> None:
    assert collector().code == 0
    with closing(sqlite3.connect(collector.data / ".collector" / "ledger.sqlite")) as ledger, ledger:
        ledger.execute("UPDATE run SET outcome = 'running'")
    seen = iter(locks)
    monkeypatch.setattr(Archive, "locked", lambda archive: next(seen))
    assert peek(read_settings(collector.env))["runs"][0]["outcome"] == "running"


def test_the_first_signal_stops_a_run_and_no_other_comes_in_between() -> None:
    def signalled() -> list[str]:
        said = []
        process.stop_on_signals()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            try:
                signal.raise_signal(number)
                said.append("goes on")
            except Stopped:
                said.append("stops")
        return said

    assert in_child(signalled) == ["stops", "goes on", "goes on"]


@pytest.mark.parametrize(
    ("owner", "step", "outcome", "says"),
    [
        (Run, "_greet", "failed", "stopped on request; no data file was changed"),
        (Archive, "_prepare", "failed", "stopped on request while publishing"),
        (Run, "_keep_house", "done", "; stopped on request, the next run goes on with the rest"),
        (Progress, "close", "done", " 0 waiting"),  # it is over by then, and noted how it went
    ],
)
def test_a_run_that_is_stopped_notes_how_far_it_came(
    node: ManagementNode,
    collector: Site,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    step: str,
    outcome: str,
    says: str,
) -> None:
    real = getattr(owner, step)

    def stopped(*given: object) -> object:
        signal.raise_signal(signal.SIGTERM)
        return real(*given)

    monkeypatch.setattr(owner, step, stopped)
    node.load(calls(seed=1, day=DAY, conferences=3))
    code = in_child(lambda: main(["collect", "--from", "2026-11-23", "--to", "2026-11-24"], collector.env))
    run = collector.status()["runs"][0]
    assert (code, run["outcome"]) == (int(outcome == "failed"), outcome)
    assert says in run["message"]


def test_what_is_made_beside_a_run_gets_its_settings_and_no_secret_and_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "program").write_text("import os; print(*os.environ)")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "program")])
    for name in ("TZ", *SECRETS):
        monkeypatch.setenv(name, "x")
    ((names,), _) = process.run_apart("a page") or ([""], [])
    assert {"TZ", *SECRETS} & set(names.split()) == {"TZ"}
    (tmp_path / "program").write_text("import time; time.sleep(20)")
    monkeypatch.setattr(process, "TIME_LIMIT", 0.1)
    assert process.run_apart("a page") is None


def test_a_line_of_the_log_has_the_time_in_the_settings_zone_and_forges_no_other() -> None:
    record = logging.makeLogRecord({"created": 0, "levelname": "INFO", "msg": "it is\n%s", "args": ("\x1b[2J",)})
    assert log.Formatter(ZoneInfo("Asia/Tokyo")).format(record) == "1970-01-01 09:00:00 INFO it is\\x0a\\x1b[2J"


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "it may not be"), NotAFile("it may not be")])
def test_a_log_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        assert (options["maxBytes"], options["backupCount"]) == (5_000_000, 4)
        raise error

    monkeypatch.setattr(log, "LogFile", refuse)
    monkeypatch.setattr(log.log, "handlers", [])
    log.open_log(read_settings({"DATA_DIR": str(tmp_path)}, node=False), to_file=True)
    assert "data_collector.log cannot be written (it may not be)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("user", "number", "cron", "ours", "found"),
    [(0, 7, True, "", 1), (9, 7, True, "", 0), (0, 1, True, "", 0), (0, 7, False, "", 0)]
    + [(0, 7, True, place, 0) for place in ("1", "2", "closed")],
)
def test_a_run_by_hand_finds_the_containers_log_where_it_does_not_write_there_anyway(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: int, number: int, cron: bool, ours: str, found: int
) -> None:
    pid = tmp_path / "crond.pid"
    for path in (tmp_path / "closed", tmp_path / "2", *([pid] if cron else [])):
        path.touch()
    if ours != "closed":  # where it cannot be looked at
        (tmp_path / "1").touch()
    shown = (tmp_path / ours).stat()
    monkeypatch.setattr(log, "FIRST", str(tmp_path))
    monkeypatch.setattr(log, "CRON_PID", pid)
    monkeypatch.setattr(log, "_container", places := [])
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "getpid", lambda: number)
    monkeypatch.setattr(os, "fstat", lambda descriptor: shown)
    log.find_container_log()
    monkeypatch.undo()
    assert [place.name for place in places] == [str(tmp_path / "2")] * found


def test_a_run_alone_looks_for_the_containers_log(collector: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = list[str]()
    monkeypatch.setattr("collector.find_container_log", lambda: looked.append("looked"))
    wrong = {**collector.env, "UMASK": "9"}
    assert in_child(lambda: (main(["status"], wrong), main(["collect"], wrong), looked)) == (2, 2, ["looked"])


def test_completeness_is_told_in_a_sentence_each() -> None:
    told = {
        "coverage": [[f"2026-11-{n:02}", f"2026-11-{n:02}T12"] for n in range(1, 13)],
        "gaps": [[f"2026-10-{n:02}", f"2026-10-{n:02}T12"] for n in range(1, 12)],
        "forgotten": [["2026-10-10", "2026-10-10T12"]],
        "gaps_unknown_before": "2026-10-01T00:00:00",
        "lost": 3,
        "lost_from": "2026-11-03T01:00:00",
        "lost_to": "2026-11-04T01:00:00",
        "expected": 2,
        "without_end": 1,
        "reconciled": "2026-11-08T00:05:00",
    }
    said = completeness(told)
    assert said[0] == "History: everything that the node had from 2026-11-12 to 2026-11-12T12 UTC is collected"
    assert sum(line.startswith(("  and from 2026-11-", "  GAP from 2026-10-")) for line in said) == 20
    for words in (
        "  and from 2026-11-11 to",
        "  and 1 span before",
        "  GAP from 2026-10-10 to 2026-10-10T12 UTC: the node had forgotten it when it was asked",
        "  GAP from 2026-10-11 to 2026-10-11T12 UTC: not all of it was asked for",
        "  and 1 gap before",
        "  the ledger was rebuilt on 2026-10-01: gaps before that day are unknown",
        "  3 participants of collected conferences lost",
        "  2 participants of collected conferences not there yet",
        "  1 conference without an end time, each collected",
        "Compared with the node's own list of conferences: 2026-11-08T00:05:00 UTC",
    ):
        assert [line for line in said if line.startswith(words)], words
    few = completeness(told | {"coverage": told["coverage"][1:], "gaps": told["gaps"][1:]})
    assert not [line for line in few if line.endswith(" before")]
    empty = dict.fromkeys(told) | {"coverage": [], "gaps": [], "forgotten": []}
    assert completeness(empty) == [
        "History: no time is covered yet",
        "Not yet compared with the node's own list of conferences",
    ]


# health


def test_health_follows_the_runs_and_needs_no_password_and_no_node(node: ManagementNode, collector: Site) -> None:
    assert collector("health").stdout == "healthy: no run was due yet\n"
    waits = "; the next run covers this window"
    for env, why in (({"DEFAULT_MGR_SECRET": "x"}, ".*[^w]"), ({"DEFAULT_MGR_ADDRESS": "127.0.0.1:9"}, f".*{waits}")):
        assert collector(env=env, hurry=True).code == 1
        outcome = collector("health")
        assert outcome.code == 1
        assert re.fullmatch(rf"unhealthy: the run of \S+ UTC failed: {why}\n", outcome.stdout)
    assert collector().code == 0
    node.requests.clear()
    for name in ("DEFAULT_MGR_ADDRESS", "DEFAULT_MGR_SECRET", "DEFAULT_MGR_CA_FILE"):
        del collector.env[name]
    outcome = collector("health")
    assert outcome.code == collector("status").code == 0
    assert outcome.stdout.startswith("healthy: 0 conferences")
    assert outcome.output.count("\n") == 1, "one line"
    assert node.requests == []


def test_health_tells_a_run_under_way_from_one_that_was_killed(node: ManagementNode, collector: Site) -> None:
    node.faults.add(faults.hang(30))
    with collector.start() as run:
        while not node.requests:
            time.sleep(0.02)
        under_way = collector("health")
        assert collector("status", "--json").stdout.count('"running"') == 1
        second = collector()
        run.kill()
    assert (under_way.code, second.code) == (0, 75)
    assert f"another run is under way (process {run.pid})" in second.stderr
    assert under_way.stdout.startswith("healthy: a run is under way since ")
    killed = collector("health")
    assert killed.code == 1
    assert "was killed" in killed.stdout
    assert collector.status()["runs"][0]["outcome"] == "killed"
    assert collector().code == 0
    assert collector("health").code == 0


def health(collector: Site, monkeypatch: pytest.MonkeyPatch, schedule: str, started: datetime) -> int:
    """health in this process, in a container whose cron was started then."""
    pid = collector.data.parent / "crond.pid"
    pid.touch()
    os.utime(pid, (started.timestamp(),) * 2)
    monkeypatch.setattr(operate, "CRON_PID", pid)
    return operate.health(read_settings({**collector.env, "DATA_CRON_TIME": schedule}))


def test_health_sees_a_scheduled_run_that_did_not_happen(
    collector: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cron has two minutes for it."""
    now = datetime.now(UTC)
    for minutes, up, code in ((60, 30, 0), (1, 60, 0), (2, 60, 1), (60, 120, 1)):
        due = now - timedelta(minutes=minutes)
        daily = f"{due.minute} {due.hour} * * *"
        assert health(collector, monkeypatch, daily, now - timedelta(minutes=up)) == code, (minutes, up)
    assert f"the run of {due:%Y-%m-%d %H:%M} UTC did not happen" in capsys.readouterr().out


def test_health_holds_the_last_run_to_the_schedule_and_the_clock(
    collector: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert collector().code == 0
    now = datetime.now(UTC)
    due, since = now - timedelta(minutes=10), now - timedelta(hours=1)
    daily, yearly = f"{due.minute} {due.hour} * * *", f"0 0 {now.day} {now.month % 12 + 1} *"

    def last(ago: timedelta, by_hand: bool, schedule: str, outcome: str = "done") -> int:
        with closing(sqlite3.connect(collector.data / ".collector" / "ledger.sqlite")) as ledger, ledger:
            started = format_time(now - ago)
            newest = "UPDATE run SET started = ?, by_hand = ?, outcome = ? WHERE id = (SELECT max(id) FROM run)"
            ledger.execute(newest, (started, by_hand, outcome))
        return health(collector, monkeypatch, schedule, since)

    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    assert last(9 * minute, False, daily) == 0
    assert last(9 * minute, True, daily) == 1, "by hand is not by schedule"
    then = due.replace(second=0, microsecond=0)
    assert last(now - then, False, daily) == 0
    assert last(12 * minute, False, daily) == last(24 * hour, False, daily) == 1
    assert health(collector, monkeypatch, daily, then) == 0, "the container started with the schedule's time"
    assert last(-minute, False, daily) == last(-minute, False, yearly) == 0
    assert last(-9 * minute, False, daily) == last(-9 * minute, False, yearly) == 1, "of another clock"
    with (collector.data / ".collector" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert last(5 * hour, False, yearly, "running") == 0
        assert last(6 * hour, False, yearly, "running") == 1, "it hangs"
    running.note(collector.data, {})
    running.note_failure(collector.data, "no node")
    assert last(9 * minute, False, daily) == 1, "the container started since, and found no node"
    os.utime(collector.data / running.PLACE / running.FAILURE, ((now - 9 * minute).timestamp(),) * 2)
    assert last(9 * minute, False, daily) == 0, "at the same moment: a run in a container that starts for it"
    os.utime(collector.data / running.PLACE / running.FAILURE, ((now - 20 * minute).timestamp(),) * 2)
    assert last(9 * minute, False, daily) == 0, "and then a run went well"
    for free, code in ((19_999_999, 1), (20_000_000, 0)):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, free=free: SimpleNamespace(free=free))
        assert last(9 * minute, False, daily) == code
    with closing(sqlite3.connect(collector.data / ".collector" / "ledger.sqlite")) as ledger, ledger:
        ledger.execute("INSERT INTO run (id, started, outcome) VALUES (0, ?, 'done')", (format_time(now + hour),))
    assert last(9 * minute, True, daily) == 1, "one of another clock serves nothing"

    def committing(settings: Settings) -> NoReturn:
        raise Writing("a run is at its commit point")

    monkeypatch.setattr(operate, "peek", committing)
    assert last(9 * minute, True, daily) == 0


COMMIT = """
import os, sqlite3, sys, time

db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN EXCLUSIVE")
for n in range(3000):
    db.execute("INSERT INTO participant VALUES (?, 'c')", (f"{n:0100}",))
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_status_and_health_tell_a_run_that_was_killed_in_mid_commit_from_one_that_commits(
    node: ManagementNode, collector: Site
) -> None:
    assert collector().code == 0
    ledger = collector.data / ".collector" / "ledger.sqlite"
    with subprocess.Popen([sys.executable, "-c", COMMIT, str(ledger)], stdout=subprocess.PIPE) as committing:
        assert committing.stdout
        committing.stdout.readline()
        with (collector.data / ".collector" / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            health = collector("health")
            assert (health.code, health.stdout.split(":")[0]) == (0, "healthy"), health.output
            assert "a run is under way and writes the ledger" in health.output
        committing.send_signal(signal.SIGKILL)
    for command in ("status", "health"):
        outcome = collector(command)
        assert outcome.code == 1
        assert "killed while it wrote the ledger; nothing is lost" in outcome.output
        assert "permission" not in outcome.output
    assert collector().code == 0
    assert collector("health").code == 0


NEEDLESS = {
    "health": {"requests", "urllib3", "cryptography", "tenacity", "msgspec", "tqdm", "crontab", "tomllib"},
    "collect": {"tomllib", "tqdm", "cryptography", "duckdb", "apprise"},
}


@pytest.mark.parametrize("command", NEEDLESS)
def test_a_command_in_which_nothing_is_wrong_imports_nothing_that_it_does_not_need(
    collector: Site, tmp_path: Path, command: str
) -> None:
    if command == "health":  # which asks no node: with what that needs it has nothing to do
        (tmp_path / "key.pem").write_bytes(OAuth2().add("client"))
        del collector.env["DEFAULT_MGR_SECRET"]
        collector.env |= {"DEFAULT_MGR_CLIENT_ID": "x", "DEFAULT_MGR_CLIENT_KEY_FILE": str(tmp_path / "key.pem")}
    words = [sys.executable, "-X", "importtime", COLLECTOR, command]
    done = subprocess.run(words, env=collector.env, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-2000:]
    assert not {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()} & NEEDLESS[command]


# --if-due


def test_if_due_collects_only_what_the_schedule_missed(node: ManagementNode, collector: Site) -> None:
    collector.env["DATA_CRON_TIME"] = "0 * * * *"
    node.load(calls(seed=3, day=DAY, conferences=3))
    collector.at(MIDNIGHT)
    node.faults.add(faults.status(403))
    assert collector("collect", "--if-due").code == 1
    assert collector("collect", "--if-due").code == 0, "what failed is tried again"
    assert collector.dated("Conf"), "nothing was collected at midnight yet"
    collector.at(MIDNIGHT + timedelta(minutes=20))
    assert collector("collect", "--from", "2026-11-23").code == 0  # by hand, since then
    first = len(collector.dated("Conf"))
    assert collector("collect", "--if-due").code == 0
    assert len(collector.dated("Conf")) == first, "midnight was served"
    collector.at(MIDNIGHT + timedelta(minutes=80))
    assert collector("collect", "--if-due").code == 0
    assert len(collector.dated("Conf")) > first, "one o'clock was missed"


# The report after a run


def test_a_report_is_made_after_a_run_that_brought_rows_and_one_that_cannot_be_fails_no_run(
    node: ManagementNode, collector: Site
) -> None:
    collector.env["DATA_REPORT"] = "true"
    page = collector.data / "report.html"
    collector.at(MIDNIGHT)
    assert collector("collect").code == 0
    assert not page.exists(), "nothing came"
    node.load(calls(seed=3, day=DAY, conferences=3))
    page.mkdir()
    outcome = collector("collect", "--from", "2026-11-23")
    (warning,) = (line for line in outcome.stderr.splitlines() if " WARNING " in line)
    assert "report.html was not written" in warning
    assert (outcome.code, collector.status()["runs"][0]["outcome"]) == (0, "done")
    page.rmdir()
    node.load(calls(seed=4, day=DAY, conferences=3))
    assert collector("collect", "--from", "2026-11-23").code == 0
    assert "<html" in page.read_text(encoding="utf-8")
    assert collector("report").stdout == f"{page}\n"
    assert len(collector("report", "--figures").stdout.splitlines()) > 5


@time_machine.travel(datetime(2026, 10, 31, 23, 30, tzinfo=UTC))
def test_the_page_of_a_month_is_made_once_and_of_the_month_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    def run_apart(*arguments: str) -> tuple[list[str], bool]:
        asked.append(arguments)
        return ["the page", "12 conferences"], True

    monkeypatch.setattr(report_page, "run_apart", run_apart)
    environ = {"DATA_REPORT": "monthly", "DATA_REPORT_HIDE_NAMES": "true", "TZ": "Europe/Oslo"}
    settings = read_settings({"DATA_DIR": str(tmp_path), **environ}, node=False)
    path = tmp_path / "report-2026-10.html"
    assert report_page.write_month(replace(settings, report="true")) is None
    assert report_page.write_month(settings) == (path, ["12 conferences"])
    options = ("--month", "2026-10", "--output", str(path), "--figures", "--hide-names")
    assert asked == [(path.name, "report", *options)]
    path.symlink_to("nowhere")
    assert report_page.write_month(settings) is None, "something has its name"
    report_page.write_apart(replace(settings, report_hide_names=False))
    assert asked[1:] == [("report.html", "report")]


def test_the_page_gets_of_the_ledger_what_status_says(tmp_path: Path) -> None:
    found = peek(read_settings({"DATA_DIR": str(tmp_path)}, node=False))
    assert report_page.facts_of(found).coverage is None, "without a ledger nothing is known"
    for known in ({"runs": [{}]}, {"resources": [("conference", 4, None)]}):
        assert report_page.facts_of({**found, **known}).coverage == [], "nothing is covered"
    found |= {"staged": 2, "expected": 3, "resources": [("conference", 4, None)]}
    span = ["2026-11-23T00:00:00", "2026-11-24T00:00:00"]
    lost = {"lost": 5, "lost_from": span[0], "lost_to": span[1]}
    facts = report_page.facts_of({**found, "gaps": [span], "gaps_unknown_before": span[0], **lost})
    start, end = map(parse_time, span)
    assert (facts.coverage, facts.gaps, facts.gaps_unknown_before) == ([], [(start, end)], start)
    assert (facts.waiting, facts.missing, facts.rows, facts.lost) == (2, 3, {"conference": 4}, [(end, 5)])


def test_rooms_are_the_lines_of_a_file_each_once_without_blanks_and_of_one_that_is_none_it_is_said_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, held = tmp_path / "rooms", "\ufeffFjord\r\n\r\n \r\nØst \r\nFjord\n".encode()
    monkeypatch.setattr(report_page, "MOST_NAMES", len(held))
    file.write_bytes(held)
    (tmp_path / "link").symlink_to(file)
    assert report_page.read_rooms(tmp_path / "link") == ["Fjord", "Øst"]
    for wrong, why in ((held + b"x", "larger"), (b"\xff", "UTF-8"), (None, "No such file")):
        file.unlink() if wrong is None else file.write_bytes(wrong)
        with pytest.raises(CollectorError, match=why):
            report_page.read_rooms(file)


@pytest.mark.parametrize(
    "options",
    [
        *[("--format", "csv", "--delimiter", sign) for sign in ("é", ";;", '"', "", "\x80")],
        *[("--round-up",), ("--partial",), ("--month", "2026-13"), ("--from", "2026-11-31"), ("--columns", "nonsense")],
        *[("--month", "2026-11", name, "2026-11-01") for name in ("--from", "--to")],
        ("--delimiter", ";", "--format", "xlsx"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(site: Site, options: tuple[str, ...]) -> None:
    outcome = site("export", "rooms", *options)
    assert outcome.code == 2
    assert options[-2 if len(options) > 1 else 0].lstrip("-") in outcome.stderr


def test_columns_are_named_with_commas_and_blanks_between_are_none_of_a_name() -> None:
    assert parse(["export", "calls", "--columns", " id, name ,,x"], ZoneInfo("UTC")).columns == ("id", "name", "x")


def test_of_a_period_that_is_not_covered_three_spans_are_named(tmp_path: Path) -> None:
    told = {"coverage": [[f"2026-11-0{day}T00:00:00", f"2026-11-0{day}T12:00:00"] for day in (2, 3, 4, 5)]}
    settings = read_settings({"DATA_DIR": str(tmp_path)}, node=False)
    wanted = Wanted("calls", first=date(2026, 11, 2), last=date(2026, 11, 5))
    said = export_command._uncovered(settings, wanted, told, True)  # private: the command would need a whole ledger
    assert "2026-11-04T12:00:00 to 2026-11-05T00:00:00 and 1 more (UTC)" in said
    assert "2026-11-05T12" not in said
    wanted = Wanted("calls", first=date(2026, 11, 3), last=date(2026, 11, 5))
    assert "more" not in export_command._uncovered(settings, wanted, told, True)  # private: as above


@pytest.mark.parametrize(
    ("first", "last", "name"),
    [
        (date(2026, 11, 1), date(2026, 11, 30), "usage-2026-11"),
        (date(2024, 2, 1), date(2024, 2, 29), "usage-2024-02"),
        (date(2026, 11, 1), date(2026, 11, 29), "usage-2026-11-01-to-2026-11-29"),
        (date(2026, 11, 2), date(2026, 12, 1), "usage-2026-11-02-to-2026-12-01"),
        (date(2026, 11, 1), None, "usage-from-2026-11-01"),
        (None, date(2026, 11, 30), "usage-until-2026-11-30"),
        (None, None, "usage"),
    ],
)
def test_an_export_is_named_by_its_period(first: date | None, last: date | None, name: str) -> None:
    assert default_name(Wanted("usage", first=first, last=last)) == name


# Whose the files are

# A clone, or a Python, in a folder of root's alone cannot be run by another; tests/image holds the same promises.
as_root = pytest.mark.skipif(
    os.geteuid() != 0 or not others_may_enter(Path(__file__).parent, Path(sys.executable).resolve()),
    reason="needs root, and a clone and a Python that others may enter: becoming the data folder's owner",
)


def readable_for_all(collector: Site) -> None:
    """The test's folders are root's alone; the user that collects has to pass through them."""
    ca = open_to_all(collector.data).parent / "ca.pem"
    ca.write_bytes(Path(collector.env["DEFAULT_MGR_CA_FILE"]).read_bytes())
    ca.chmod(0o644)
    collector.env["DEFAULT_MGR_CA_FILE"] = str(ca)


@as_root
@pytest.mark.parametrize("owner", [{}, {"PUID": "4711", "PGID": "4712"}])
def test_roots_run_becomes_the_owner_of_the_data_folder(
    node: ManagementNode, collector: Site, owner: dict[str, str]
) -> None:
    readable_for_all(collector)
    expected = (4711, 4712) if owner else (4242, 4343)
    os.chown(collector.data, *expected)
    collector.env |= owner
    outcome = collector()
    assert outcome.code == 0, outcome.output
    assert collector("check").code == 0
    made = [path for path in collector.data.rglob("*") if path.name != "__pycache__"]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {expected}
    assert {path.stat().st_mode & 0o777 for path in made if path.is_file()} == {0o640}, "UMASK 027"
