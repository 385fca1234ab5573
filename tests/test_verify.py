"""`verify`: what was changed since, by whom, and an exit code for a program."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from pexip_history.archive import manifest
from pexip_history.archive.comparing import compare
from pexip_history.export.parquet import make_missing
from pexip_history.folder.reading import open_rows
from tests.forked import Outcome
from tests.harness import ROOT
from tests.management_node.calls import calls
from tests.test_parquet import write_dated


def verify(data: Path, **env: str) -> Outcome:
    done = subprocess.run(
        [sys.executable, str(ROOT / "collector.py"), "verify"],
        env={"PATH": os.environ["PATH"], "DATA_DIR": str(data), **env},
        capture_output=True,
        encoding="utf-8",
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def aggregate(data: Path) -> None:
    """The aggregates as the rows of all dated files, in order."""
    for kind in ("Conf", "Part"):
        paths = sorted(data.glob(f"????-*_pexHistory{kind}.csv"))
        lines = [path.read_bytes().partition(b"\r\n") for path in paths]
        (data / f"pexHistory{kind}.csv").write_bytes(lines[0][0] + b"\r\n" + b"".join(rest for _, _, rest in lines))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        write_dated(
            tmp_path, number, list(calls(seed=number, day=date(2026, 10, number), conferences=6)), streams=False
        )
    aggregate(tmp_path)
    manifest.note(tmp_path)
    make_missing(tmp_path)
    return tmp_path


def part(data: Path, number: int) -> Path:
    return data / f"2026-11-{number:02}_00-05-00_pexHistoryPart.csv"


def test_files_as_they_were_written_are_good(data: Path) -> None:
    done = verify(data)
    assert (done.code, done.output) == (0, "6 dated files as they were written\n")


def test_edited_missing_erased_and_removed_are_told_apart(data: Path) -> None:
    part(data, 1).write_bytes(part(data, 1).read_bytes().replace(b"Oslo", b"Bergen", 1))
    part(data, 2).unlink()
    done = verify(data)
    assert done.code == 1
    assert f"{part(data, 1).name}: edited by somebody since" in done.stdout
    assert f"{part(data, 2).name}: missing" in done.stdout
    assert "pexHistoryPart.csv: 1 rows are otherwise in the dated files" in done.stdout
    manifest.note_change(data, manifest.ERASED, [part(data, 1).name])
    manifest.note_change(data, manifest.REMOVED, [part(data, 2).name])
    aggregate(data)
    done = verify(data)
    assert done.code == 0, done.output
    assert "1 dated file rewritten by the collector itself" in done.stdout
    assert "1 dated file removed by DATA_KEEP_DAYS" in done.stdout


def test_a_file_that_is_older_than_the_days_that_are_kept_is_not_missing(data: Path) -> None:
    part(data, 1).unlink()
    assert verify(data).code == 1
    assert verify(data, DATA_KEEP_DAYS="1").code == 0


def test_an_aggregate_that_lacks_rows_or_has_some_twice_is_named(data: Path) -> None:
    path = data / "pexHistoryPart.csv"
    with open_rows(path) as rows:
        ends = [rows.end for _ in rows]
    whole = path.read_bytes()
    path.write_bytes(whole[: ends[-3]])
    assert "pexHistoryPart.csv: 2 rows of the dated files are not in it" in verify(data).stdout
    path.write_bytes(whole + whole[ends[-2] :])
    done = verify(data)
    assert "pexHistoryPart.csv: 1 rows are there more than once" in done.stdout
    assert done.code == 1


def test_other_columns_and_another_order_of_them_are_no_difference(data: Path) -> None:
    import csv

    path = data / "pexHistoryPart.csv"
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([*reversed(row), "" if number else "new"] for number, row in enumerate(table))
    found = compare(path, "participant", [part(data, n) for n in (1, 2, 3)], len(table) - 1, data)
    assert found.same
    assert found.rows == len(table) - 1


def test_a_file_that_the_manifest_does_not_know_is_named(data: Path) -> None:
    write_dated(data, 4, list(calls(seed=4, day=date(2026, 10, 4), conferences=6)), streams=False)
    done = verify(data)
    assert done.code == 1
    assert f"{part(data, 4).name}: not in manifest.jsonl" in done.stdout


def test_parquet_that_is_damaged_is_named(data: Path) -> None:
    (data / "parquet" / "participants" / "2026-11-01_00-05-00.parquet").write_bytes(b"PAR1")
    done = verify(data)
    assert done.code == 1
    assert "parquet/participants/2026-11-01_00-05-00.parquet: cannot be read" in done.stdout
