# ruff: noqa: E501 - lines of the program as they are
"""Lines that keep a promise, each broken on purpose: the tests named with it must turn red (make test-mutants).

    python -m tests.mutants [WORD ...]      those alone whose file, text or promise has one of the words

Each is applied by itself to a copy of the repository, in which only its tests run. One that survives is a line
without a test, or one that may go.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 300
"""Seconds: a mutant that never ends is found out as well."""

POWER = "test_power_cut.py::test_a_power_cut_costs_no_row"


@dataclass(frozen=True)
class Mutant:
    """A text that is in the file once, what stands there instead, what that breaks, and the tests that tell."""

    file: str
    old: str
    new: str
    breaks: str
    tests: str


def room(name: str, *mutants: tuple[str, str, str, str]) -> list[Mutant]:
    return [Mutant(name if "." in name else f"pexip_history/{name}.py", *mutant) for mutant in mutants]


MUTANTS = [
    *room(
        "collector.py",
        (
            "OVERLAP = timedelta(hours=1)",
            "OVERLAP = timedelta(hours=0)",
            "a record that appears an hour late is found by the next run",
            "test_collect.py -k up_to_an_hour_late",
        ),
        (
            "            if received > total:\n                break\n",
            "",
            "a chain of pages that is longer than its count ends",
            "test_failures.py -k longer_than_its_count",
        ),
        (
            "        if swept.still and received != total:",
            "        if False:",
            "a short answer is an error",
            "test_failures.py -k no_second_try",
        ),
        (
            "swept.still = swept.still and page.total == total",
            "pass",
            "a count that changes between two pages makes the run read again",
            "test_failures.py test_exactly_once.py -k holds_still or hold_still or rows_that_move",
        ),
        (
            "        swept.still = swept.still and ledger.swept(resource) == total\n",
            "",
            "one forgotten and one new between two pages are noticed",
            "test_ids_decide_node.py -k one_new_before",
        ),
        (
            "                if not each.waiting or each.waits_from:\n",
            "                if True:\n",
            "what a limit leaves is asked for again where the node does not order",
            "test_ids_decide_node.py -k not_a_day_later",
        ),
        (
            "Query(CONFERENCE, {\"end_time__lt\": end}, format_time(first), end, whole=True)",
            "Query(CONFERENCE, {\"end_time__lt\": end}, \"\", end, whole=True)",
            "nothing older than the first window is taken",
            "test_ids_decide.py -k nothing_older",
        ),
        (
            "return not fresh or ahead or not self.node.clocks_agree or",
            "return not fresh or not self.node.clocks_agree or",
            "a mark that lies in the future is doubted",
            "test_ids_decide.py -k mark_lay_in_the_future",
        ),
        (
            "            if run.node.clocks_agree:\n                archive.expire(now)",
            "            archive.expire(now)",
            "no dated file is removed while the clocks differ",
            "test_ids_decide.py -k no_dated_file_is_removed",
        ),
        (
            "    archive, now = Archive(settings), datetime.now(UTC).replace(microsecond=0)\n    os.umask(settings.umask)\n",
            "    archive, now = Archive(settings), datetime.now(UTC).replace(microsecond=0)\n",
            "files have the permissions that UMASK leaves",
            "test_csv.py -k umask",
        ),
        (
            "with suppress(Refused, NotFound):  # how",
            "if True:  # how",
            "a conference that is gone holds up nothing",
            "test_ids_decide_node.py -k goes_during",
        ),
        (
            "                archive.discard(ledger)\n                ledger.note_run(number, finished",
            "                ledger.note_run(number, finished",
            "a run that failed leaves nothing behind",
            "test_failures.py -k 'redirect_or_a_next or wrong_password'",
        ),
    ),
    *room(
        "ledger",
        (
            "PRAGMA synchronous = EXTRA;",
            "PRAGMA synchronous = FULL;",
            "a commit cannot be taken back by a power cut",
            POWER,
        ),
        (
            'db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok"',
            "False",
            "a damaged ledger is found out",
            "test_ledger.py -k damaged",
        ),
        (
            "if application == APPLICATION_ID and version > SCHEMA_VERSION:",
            "if False:",
            "a newer collector's ledger is left alone",
            "test_exactly_once.py -k newer_collector",
        ),
        (
            "UPDATE main.conference SET until = ? WHERE until <> ? AND id IN (SELECT id FROM seen_conference)",
            "UPDATE main.conference SET until = ? WHERE until <> ? AND 0",
            "an id is kept as long as the node lists it",
            "test_ids_decide.py -k long_pause",
        ),
        (
            "DELETE FROM main.conference WHERE until < ?",
            "DELETE FROM main.conference WHERE until < ? AND 0",
            "the ledger is as large as what the node holds",
            "test_exactly_once.py -k holds_its_size",
        ),
        (
            "(start < begun and not self.mark(CONFERENCE) and not self.mark(PARTICIPANT))",
            "False",
            "a first run with a wrong clock loses nothing",
            "test_ids_decide.py -k first_run_that_fails",
        ),
        (
            "AND NOT coalesce(asked > ? AND asked <= ?, 0)",
            "AND NOT coalesce(asked > ? AND asked <= ? AND 0, 0)",
            "participants that are never shown cost a request a day",
            "test_ids_decide_node.py -k a_request_a_day",
        ),
        (
            "db.execute(f\"PRAGMA temp_store_directory = '{quoted}'\")",
            "pass",
            "what a run notes on disk is on the data volume, not in /tmp",
            "test_ledger.py -k data_volume",
        ),
        (
            'db.execute("DELETE FROM run WHERE id <= (SELECT max(id) FROM run) + 1 - ?", (RUNS_KEPT,))',
            "pass",
            "the run table does not grow without end",
            "test_ledger.py -k thousand",
        ),
        (
            "            self.db.execute(\"VACUUM\")",
            "            pass",
            "a ledger that shrank is small on disk",
            "test_ledger.py -k small_on_disk",
        ),
    ),
    *room(
        "archive",
        (
            "        sync_folder(self.folder)\n        return files",
            "        return files",
            "the names of staged files survive a power cut (the sync of .collector)",
            POWER,
        ),
        (
            "            sync_folder(self.data)\n            sync_folder(self.folder)\n",
            "            sync_folder(self.folder)\n",
            "dated files' names survive a power cut",
            POWER,
        ),
        (
            "            sync_folder(self.data)\n            sync_folder(self.folder)\n",
            "            sync_folder(self.data)\n",
            "what was renamed away does not come back",
            POWER,
        ),
        (
            "                os.fsync(target.fileno())\n            except BaseException:",
            "            except BaseException:",
            "appended rows survive a power cut",
            POWER,
        ),
        (
            "os.ftruncate(target.fileno(), end)",
            "pass",
            "no half of a row stays where the disk was full",
            "test_crash.py -k full_from_any_step",
        ),
        (
            "        ledger.begin_publishing(sizes)\n",
            "",
            "rows are appended once, wherever publishing was cut",
            "test_crash.py -k kill_at_any_step",
        ),
        (
            "        if header != columns or there:",
            "        if there:",
            "rows go under their names where the user moved columns",
            "test_csv.py -k meanwhile",
        ),
        (
            "any(byte not in (0, right) for byte, right in zip(piece, wanted, strict=True))",
            "True",
            "rows of which a power cut left zeros are written again",
            POWER,
        ),
        (
            "if later := [stem for stem in taken if wanted <= stem < an_hour_on]:",
            "if later := [stem for stem in taken if wanted == stem]:",
            "dated files sort as the runs do when the clock is set back an hour",
            "test_collect.py -k set_back",
        ),
        (
            "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
            "fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)",
            "one run at a time",
            "test_exactly_once.py -k second_run_at_the_same_time",
        ),
        (
            "*(p for p in dated if DATED.fullmatch(p.name)), ",
            "",
            "a lost ledger is rebuilt from the dated files too",
            "test_ids_decide.py -k newer_rows",
        ),
        (
            "            draft_of(self.aggregate(resource)).unlink(missing_ok=True)",
            "            pass",
            "what a killed run left beside an aggregate goes",
            "test_csv.py -k a_killed_run_left",
        ),
    ),
    *room(
        "node",
        (
            "stays = urlsplit(target)[:2] == urlsplit(url)[:2]",
            "stays = True",
            "no password goes to where `next` leads",
            "test_failures.py -k redirect_or_a_next",
        ),
        (
            "if not filled or target == url:",
            "if not filled:",
            "a next page that is the same page is an error at once",
            "test_failures.py -k for_ever",
        ),
        (
            "            time.sleep(wait)\n",
            "            pass\n",
            "a run takes less than half of what the node allows",
            "test_ids_decide_node.py -k less_than_half",
        ),
        (
            "            if isinstance(error, TooMany) and not error.retry_after:\n                return spent >= BUSY_PATIENCE\n",
            "",
            "a 429 without Retry-After is waited out",
            "test_ids_decide_node.py -k out_for_minutes",
        ),
        (
            "and error.retry_after <= LONGEST_WAIT",
            "",
            "a Retry-After is not waited for longer than makes sense",
            "test_failures.py -k retry_after_is_waited_for",
        ),
        (
            "CLOCKS_AGREE = timedelta(minutes=15)",
            "CLOCKS_AGREE = timedelta(minutes=30)",
            "no dated file is removed while the clocks are 20 minutes apart",
            "test_ids_decide.py -k no_dated_file_is_removed",
        ),
        (
            "not all(isinstance(i, (str, int)) and i != \"\" for i in ids) or (columns and not ids)",
            "False",
            "a record without an id is an error",
            "test_failures.py -k no_second_try",
        ),
        (
            "        if code in (401, 403):",
            "        if code in (403,):",
            "a wrong password says so",
            "test_failures.py -k 'wrong_password or in_quotes'",
        ),
    ),
    *room(
        "connection",
        (
            "self._session.trust_env = False",
            "self._session.trust_env = True",
            "nothing of the environment's decides how the node is asked",
            "test_failures.py -k 'environment or netrc'",
        ),
        (
            "stream=True, allow_redirects=False",
            "stream=True, allow_redirects=True",
            "no redirect is followed",
            "test_failures.py -k redirect_or_a_next",
        ),
        (
            "\"assert_fingerprint\": settings.fingerprint",
            "\"assert_fingerprint\": None",
            "a pinned certificate is accepted and no other",
            "test_failures.py -k pinned",
        ),
        (
            "    for name in (\"SSL_CERT_FILE\", \"SSL_CERT_DIR\", \"SSLKEYLOGFILE\"):\n        os.environ.pop(name, None)\n",
            "",
            "no CA variable of the environment counts",
            "test_failures.py -k no_ca_variable",
        ),
        (
            "context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN",
            "pass",
            "the node's own certificate can be DEFAULT_MGR_CA_FILE",
            "test_failures.py -k no_matter_who_issued_it",
        ),
        (
            "        if len(body) > MOST_BYTES:",
            "        if False:",
            "an answer beyond all bounds is refused",
            "test_failures.py test_hostile.py -k 'no_second_try or large or bytes'",
        ),
        (
            "        timer.start()\n",
            "",
            "an answer that never ends is given up",
            "test_failures.py -k 'does_not_answer or drip or whole'",
        ),
        (
            "if not 101 < status < 200:",
            "if True:",
            "informational answers are passed over",
            "test_failures.py -k 'informational or early_hints or passing_fault_is'",
        ),
    ),
    *room(
        "csvfile",
        (
            "        else:\n            os.fsync(self._file.fileno())\n",
            "",
            "staged rows survive a power cut (the sync of a staged file)",
            POWER,
        ),
        (
            "        file.flush()\n        os.fsync(file.fileno())\n    if path.exists():",
            "        file.flush()\n    if path.exists():",
            "a rewritten aggregate survives a power cut",
            POWER,
        ),
        (
            "    draft.replace(path)\n    sync_folder(path.parent)\n",
            "    draft.replace(path)\n",
            "a rewritten aggregate's name survives a power cut",
            POWER,
        ),
        (
            "        shutil.copymode(path, draft)\n",
            "        pass\n",
            "a rewritten aggregate keeps its permissions",
            "test_csv.py -k permissions_that_the_user",
        ),
        (
            "        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):\n            raise\n",
            "        raise\n",
            "network shares that cannot sync a folder are collected into",
            "test_csv.py -k share",
        ),
        (
            "self.escape and name not in UNGUARDED",
            "self.escape",
            "keys are never guarded",
            "test_csv.py -k never_guarded",
        ),
        (
            "            columns = {guard(name): values for name, values in columns.items()}",
            "            pass",
            "a field's name is guarded as a text is",
            "test_csv.py -k 'field_name or whatever_the_node_sends'",
        ),
        (
            "for pick in picks] + row[len(header) :]",
            "for pick in picks]",
            "cells that a user wrote beyond the header stay",
            "test_csv.py test_exactly_once.py -k 'beyond or edited'",
        ),
        (
            "source.open(encoding=\"utf-8-sig\", errors=\"surrogateescape\", newline=\"\") as lines:\n        text.write",
            "source.open(encoding=\"utf-8-sig\", errors=\"replace\", newline=\"\") as lines:\n        text.write",
            "bytes that are no UTF-8 stay what they are when a file is rewritten",
            "test_csv.py -k moved_columns",
        ),
    ),
    *room(
        "log",
        (
            "LOG_BYTES, LOG_FILES = 5_000_000, 4",
            "LOG_BYTES, LOG_FILES = 5_000_000, 400",
            "the log takes at most 25 MB (the number of rotated logs)",
            "test_collect.py -k rotated",
        ),
        (
            "record.message = printable(record.message)",
            "pass",
            "what a node says forges no line of the log",
            "test_failures.py test_messages.py -k 'forge or terminal or odd_values or no_second_try'",
        ),
    ),
    *room(
        "privileges",
        ("        os.setgroups([])\n", "", "no group of root's is left (--clear-groups)", "test_privileges.py -k nothing_of_root"),
        (
            "os.setresuid(uid, uid, uid)",
            "os.setreuid(uid, uid) if False else os.setresuid(uid, uid, 0)",
            "there is no way back to root",
            "test_privileges.py -k nothing_of_root",
        ),
        (
            "        _prctl(PR_CAPBSET_DROP, capability)\n",
            "        pass\n",
            "no program that is started gains a capability",
            "test_privileges.py -k nothing_of_root",
        ),
        (
            "    _prctl(PR_SET_DUMPABLE, 0)\n",
            "",
            "the same user can read neither environment nor memory",
            "test_privileges.py -k same_user",
        ),
        (
            "        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
            "        pass",
            "no core dump",
            "test_privileges.py -k core_dump",
        ),
        (
            "            refuse_shared(folder)\n",
            "            pass\n",
            "root writes where nobody else can",
            "test_privileges.py -k others_can_write",
        ),
        (
            "        refuse_links(folder)\n        owner",
            "        owner",
            "root goes over no link",
            "test_privileges.py -k over_no_link",
        ),
    ),
    *room(
        "settings",
        (
            "read.environ.get(name, \"\") if variable.read is as_bytes else read.text(name)",
            "read.text(name)",
            "a password keeps its quotes and spaces",
            "test_settings.py -k byte_for_byte",
        ),
        (
            ".removesuffix(b\"\\n\").removesuffix(b\"\\r\")",
            ".removesuffix(b\"\\n\")",
            "a password file may end as Windows ends lines",
            "test_settings.py -k last_line_break",
        ),
        (
            "    if len(text) > 1 and text[0] == text[-1] and text[0] in \"'\\\"\":",
            "    if False:",
            "quotes that docker run --env-file leaves are dropped",
            "test_settings.py -k quotes_around",
        ),
        (
            "not path.is_absolute() or \"..\" in path.parts",
            "not path.is_absolute()",
            "the data folder is named without detours",
            "test_settings.py -k wrong_setting",
        ),
        (
            "if not re.fullmatch(\"0?0[0-7]{2}\", text):",
            "if not re.fullmatch(\"0?[0-7]{3}\", text):",
            "UMASK leaves the owner everything",
            "test_settings.py -k wrong_setting",
        ),
        (
            "    secret: bytes = field(repr=False)",
            "    secret: bytes",
            "no text of the settings tells the password",
            "test_settings.py -k tells_the_password",
        ),
    ),
]  # fmt: skip


def try_one(copy: Path, mutant: Mutant) -> str:
    """`killed`, `survived`, or why it could not be tried."""
    path = copy / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        return f"its text is there {text.count(mutant.old)} times"
    files, _, words = mutant.tests.partition(" -k ")
    named = [f"tests/{name}" for name in files.split() if (copy / "tests" / name.partition("::")[0]).exists()]
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *named]
    command += ["-k", words.strip("'")] if words else []
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        done = subprocess.run(command, cwd=copy, capture_output=True, encoding="utf-8", timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return "killed by its time"
    finally:
        path.write_text(text, encoding="utf-8")
    if done.returncode == 5:
        return "survived: no such test"
    if done.returncode not in (0, 1):
        return f"pytest ended with {done.returncode}: {done.stdout[-300:]}"
    if done.returncode == 0 and " passed" not in done.stdout:
        return f"its tests were skipped: {done.stdout[-200:]}"
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S*)", done.stdout, re.MULTILINE)
    return f"killed by {failed[1] if failed else 'an error'}" if done.returncode else "survived"


def main(words: list[str]) -> int:
    wanted = [m for m in MUTANTS if not words or any(word in f"{m.file} {m.old} {m.breaks}" for word in words)]
    alive = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "repository"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache"))
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        for mutant in wanted:
            began = time.monotonic()
            result = try_one(copy, mutant)
            print(f"{result}: {mutant.file}: {mutant.breaks} ({time.monotonic() - began:.0f} s)", flush=True)
            if not result.startswith("killed"):
                alive.append(mutant)
    print(f"{len(wanted)} mutants, {len(wanted) - len(alive)} killed")
    return len(alive)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*")
    sys.exit(bool(main(parser.parse_args().words)))
