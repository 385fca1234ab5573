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
from pexip_history.operate import verify as operate
from pexip_history.settings.environment import read_settings
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
        rows = ([*reversed(row), *([""] * (number % 2))] for number, row in enumerate(table[1:]))  # some are short
        csv.writer(file).writerows([[*reversed(table[0]), "new"], *rows])
    found = compare(path, "participant", [part(data, n) for n in (1, 2, 3)], len(table) - 1, data)
    assert found.same
    assert found.rows == len(table) - 1


def test_a_file_that_the_manifest_does_not_know_is_named(data: Path) -> None:
    write_dated(data, 4, list(calls(seed=4, day=date(2026, 10, 4), conferences=6)), streams=False)
    done = verify(data)
    assert done.code == 1
    assert f"{part(data, 4).name}: not in manifest.jsonl" in done.stdout


def test_parquet_in_a_folder_whose_name_is_a_pattern_is_read(data: Path) -> None:
    there = data.with_name("[data]*")
    data.rename(there)
    assert verify(there).code == 0


def test_a_link_in_place_of_a_parquet_file_is_named_and_not_followed(data: Path) -> None:
    path = data / "parquet" / "participants" / "2026-11-01_00-05-00.parquet"
    path.rename(data / "moved")
    path.symlink_to(data / "moved")
    done = verify(data)
    assert done.code == 1
    assert f"{path.name}: cannot be read" in done.stdout


def test_parquet_that_is_damaged_is_named(data: Path) -> None:
    (data / "parquet" / "participants" / "2026-11-01_00-05-00.parquet").write_bytes(b"PAR1")
    done = verify(data)
    assert done.code == 1
    assert "parquet/participants/2026-11-01_00-05-00.parquet: cannot be read" in done.stdout


def test_what_is_here_again_gone_or_of_another_length_is_named(data: Path) -> None:
    """A file of the same size can be another one; that a file was removed says nothing of its Parquet."""
    manifest.note_change(data, manifest.REMOVED, [part(data, 3).name])
    part(data, 1).write_bytes(part(data, 1).read_bytes().replace(b"Oslo", b"Roma", 1))
    (data / "pexHistoryConf.csv").unlink()
    parquet = data / "parquet" / "participants"
    for name in ("2026-11-02_00-05-00.parquet", "2026-11-03_00-05-00.parquet"):
        (parquet / name).write_bytes((parquet / "2026-11-01_00-05-00.parquet").read_bytes())
    done = verify(data)
    assert done.code == 1
    for words in (
        f"{part(data, 1).name}: edited by somebody since",
        f"{part(data, 3).name}: here again, though DATA_KEEP_DAYS removed it",
        "pexHistoryConf.csv: missing; the next run",
        f"parquet/participants/2026-11-02_00-05-00.parquet: {lines(part(data, 1))} rows, {lines(part(data, 2))} in the",
    ):
        assert words in done.stdout
    assert "2026-11-03_00-05-00.parquet" not in done.stdout


def lines(path: Path) -> int:
    with open_rows(path) as rows:
        return len(list(rows))


def test_rows_that_the_ledger_knows_and_no_file_holds_are_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_settings({"DATA_DIR": str(data)}, node=False)
    held = lines(data / "pexHistoryPart.csv")
    for known, said in ((held, []), (held + 1, [f"pexHistoryPart.csv: {held} rows, of {held + 1} that the ledger"])):
        monkeypatch.setattr(
            operate, "peek", lambda settings, known=known: {"resources": [("participant", known, None)]}
        )
        # private: the command would need a whole ledger
        assert [line[: len(said[0])] for line in operate._aggregates(settings, {})] == said
