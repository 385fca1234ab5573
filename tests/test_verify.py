"""`verify`: what was changed since, by whom, and an exit code for a program."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from pexip_history.archive import manifest
from pexip_history.archive.comparing import Compared, compare, ends_with
from pexip_history.export.parquet import make_missing
from pexip_history.folder.reading import open_rows
from pexip_history.operate import verify as operate
from pexip_history.settings.environment import read_settings
from tests.harness import command
from tests.management_node.calls import calls
from tests.test_parquet import write_dated


def aggregate(data: Path) -> None:
    """The aggregates as the rows of all dated files, in order."""
    for kind in ("Conf", "Part"):
        paths = sorted(data.glob(f"????-*_pexHistory{kind}.csv"))
        lines = [path.read_bytes().partition(b"\r\n") for path in paths]
        (data / f"pexHistory{kind}.csv").write_bytes(lines[0][0] + b"\r\n" + b"".join(rest for _, _, rest in lines))


def write_day(data: Path, number: int) -> None:
    write_dated(data, number, list(calls(seed=number, day=date(2026, 10, number), conferences=6)), streams=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        write_day(tmp_path, number)
    aggregate(tmp_path)
    manifest.note(tmp_path)
    make_missing(tmp_path)
    return tmp_path


def part(data: Path, number: int) -> Path:
    return data / f"2026-11-{number:02}_00-05-00_pexHistoryPart.csv"


def test_files_as_they_were_written_are_good_and_what_is_no_file_is_passed_over(data: Path) -> None:
    os.mkfifo(part(data, 9))
    (data / "copy_of_pexHistoryPart.csv").write_bytes(b"id\r\nof another\r\n")
    done = command(data, "verify")
    assert (done.code, done.output) == (0, "6 dated files as written\n")


def test_edited_missing_erased_and_removed_are_told_apart(data: Path) -> None:
    part(data, 1).write_bytes(part(data, 1).read_bytes().replace(b"Oslo", b"Bergen", 1))
    part(data, 2).unlink()
    done = command(data, "verify")
    assert done.code == 1
    assert f"{part(data, 1).name}: edited by somebody since" in done.stdout
    assert f"{part(data, 2).name}: missing" in done.stdout
    assert "pexHistoryPart.csv: 1 row otherwise than in the dated files" in done.stdout
    manifest.note_change(data, manifest.ERASED, [part(data, 1).name])
    manifest.note_change(data, manifest.REMOVED, [part(data, 2).name])
    aggregate(data)
    done = command(data, "verify")
    assert done.code == 0, done.output
    assert "1 dated file rewritten by the collector itself" in done.stdout
    assert "1 dated file removed by DATA_KEEP_DAYS" in done.stdout


def lines(path: Path) -> int:
    with open_rows(path) as rows:
        return len(list(rows))


def cut(path: Path, last: int, again: int = 0) -> None:
    """Take the last rows away, or have them again."""
    with open_rows(path) as rows:
        ends = [rows.end for _ in rows]
    whole = path.read_bytes()
    path.write_bytes(whole[: ends[-1 - last]] + again * whole[ends[-1 - again] :])


def link(path: Path) -> None:
    path.rename(path.parent.parent / "moved")
    path.symlink_to(path.parent.parent / "moved")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("pexHistoryPart.csv", lambda path: cut(path, 2), "lacks 2 rows of the dated files"),
        ("pexHistoryPart.csv", lambda path: cut(path, 0, 1), "1 row there more than once"),
        ("2026-11-04_00-05-00_pexHistoryPart.csv", lambda path: write_day(path.parent, 4), "not in manifest.jsonl"),
        ("pexHistoryPart.csv", lambda path: (path.unlink(), os.mkfifo(path)), ""),
        ("parquet/participants/2026-11-01_00-05-00.parquet", link, "cannot be read"),
        ("parquet/participants/2026-11-01_00-05-00.parquet", lambda p: p.write_bytes(b"PAR1"), "cannot be read"),
    ],
)
def test_what_is_short_doubled_unknown_a_link_or_damaged_is_named(
    name: str, change: Callable[[Path], object], said: str, data: Path
) -> None:
    change(data / name)
    done = command(data, "verify")
    assert (done.code, done.stdout.count(f"{name}: {said}"), done.stdout.count(f"{name}: ")) == (1, 1, 1), done.output


def test_a_file_older_than_the_days_that_are_kept_is_not_missing_and_the_folders_name_may_be_a_pattern(
    data: Path,
) -> None:
    data = data.rename(data.with_name("[data]*"))
    assert command(data, "verify").code == 0
    part(data, 1).unlink()
    assert command(data, "verify").code == 1
    assert command(data, "verify", DATA_KEEP_DAYS="1").code == 0
    assert command(data, "verify", DATA_KEEP_DAYS="9999").code == 1


def test_other_columns_and_another_order_of_them_are_no_difference(data: Path) -> None:
    path = data / "pexHistoryPart.csv"
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = ([*reversed(row), *([""] * (number % 2))] for number, row in enumerate(table[1:]))  # some are short
        csv.writer(file).writerows([[*reversed(table[0]), "new"], *rows])
    dated = [part(data, number) for number in (1, 2, 3)]
    assert not ends_with(path, dated), "their bytes differ"
    assert compare(path, "participant", dated, data) == Compared()


def test_where_the_bytes_are_the_same_no_row_is_looked_at(data: Path) -> None:
    path, dated = data / "pexHistoryPart.csv", [part(data, number) for number in (1, 2, 3)]
    for some, same in ((dated, True), (dated[1:], True), (dated[:2], False), (dated[::-1], False), ([], True)):
        assert ends_with(path, some) == same
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert not ends_with(path, dated)


def test_what_is_here_again_gone_or_of_another_length_is_named(data: Path) -> None:
    """A file of the same size can be another one; that a file was removed says nothing of its Parquet."""
    manifest.note_change(data, manifest.REMOVED, [part(data, 3).name])
    part(data, 1).write_bytes(part(data, 1).read_bytes().replace(b"Oslo", b"Roma", 1))
    (data / "pexHistoryConf.csv").unlink()
    parquet = data / "parquet" / "participants"
    for name in ("2026-11-02_00-05-00.parquet", "2026-11-03_00-05-00.parquet", "2026-11-09_00-05-00.parquet"):
        (parquet / name).write_bytes((parquet / "2026-11-01_00-05-00.parquet").read_bytes())
    done = command(data, "verify")
    assert done.code == 1
    for words in (
        f"{part(data, 1).name}: edited by somebody since",
        f"{part(data, 3).name}: here again, though DATA_KEEP_DAYS removed it",
        "pexHistoryConf.csv: missing; the next run",
        f"parquet/participants/2026-11-02_00-05-00.parquet: {lines(part(data, 1))} rows, {lines(part(data, 2))} in the",
    ):
        assert words in done.stdout
    assert "2026-11-03_00-05-00.parquet" not in done.stdout
    assert "2026-11-09_00-05-00.parquet" not in done.stdout, "nothing is known of it"


def test_rows_that_the_ledger_knows_and_no_file_holds_are_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, path = read_settings({"DATA_DIR": str(data)}, node=False), data / "pexHistoryPart.csv"
    held = lines(path)
    (data / "pexHistoryConf.csv").write_bytes(b"id,end_time\r\n")  # of which the ledger knows nothing

    def said(known: int, *dated: Path) -> list[str]:
        monkeypatch.setattr(operate, "peek", lambda settings: {"resources": [("participant", known, None)]})
        # private: the command would need a whole ledger
        return list(operate._aggregates(settings, dated))

    assert said(held) == []
    assert said(held + 1) == [f"{path.name}: {held} rows, of {held + 1} that the ledger knows were written to it"]
    cut(path, 1)
    assert said(held, *sorted(data.glob(f"2026-*_{path.name}"))) == [f"{path.name}: lacks 1 row of the dated files"]
    path.unlink()
    assert said(0) == []
    assert len(said(1)) == 1
