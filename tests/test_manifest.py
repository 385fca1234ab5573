"""manifest.jsonl: a line for each dated file, once, whatever cuts it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pexip_history.archive import manifest
from pexip_history.errors import CollectorError

from .test_folder import OTHERS

SPAN = ("2026-11-22T00:00:00", "2026-11-23T00:00:00")
NAMES = ["  spaces ", 'Robert "Bob"', "two\r\nlines", '"\n"', "plain", '","', "\n\n", '"']

WRITTEN, NOTHING = manifest.Written(len(NAMES), (SPAN,)), manifest.Written(0, ())


def dated(data: Path, day: int, rows: int = len(NAMES), kind: str = "Part") -> str:
    """A dated file whose display names have quotes and line breaks."""
    name = f"2026-11-{day:02}_00-05-00_pexHistory{kind}.csv"
    with (data / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "display_name"], *([n, NAMES[n % len(NAMES)]] for n in range(rows))])
    return name


def lines(data: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (data / manifest.NAME).read_text().splitlines()]


def test_a_line_says_name_rows_bytes_hash_and_spans(tmp_path: Path) -> None:
    name = dated(tmp_path, 23)
    assert manifest.note(tmp_path, {name: WRITTEN}) == 1
    content = (tmp_path / name).read_bytes()
    figures = {"rows": len(NAMES), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert lines(tmp_path) == [{"name": name, **figures, "spans": [list(SPAN)]}]


@pytest.mark.parametrize("piece", [1, 2, 3, 7])
def test_rows_are_counted_right_wherever_a_piece_of_the_file_ends(
    piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "PIECE", piece)
    path = tmp_path / dated(tmp_path, 23, rows=57)
    assert manifest.measure(path).rows == 57
    path.write_bytes(path.read_bytes()[:-2])  # an editor took the last line's end
    assert manifest.measure(path).rows == 57


def test_a_name_has_one_line_however_often_it_is_noted(tmp_path: Path) -> None:
    first, second = dated(tmp_path, 23), dated(tmp_path, 24)
    assert manifest.note(tmp_path, {first: WRITTEN}) == 2
    assert manifest.note(tmp_path, {first: WRITTEN}) == 0
    third = dated(tmp_path, 25, rows=0)
    assert manifest.note(tmp_path, {third: NOTHING}) == 1
    noted = [(first, [list(SPAN)]), (second, None), (third, [])]
    assert [(line["name"], line["spans"]) for line in lines(tmp_path)] == noted


def test_a_manifest_cut_at_any_byte_is_whole_again_after_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [dated(tmp_path, day) for day in (21, 22, 23)]
    manifest.note(tmp_path, {names[2]: WRITTEN})
    whole = (tmp_path / manifest.NAME).read_bytes()
    monkeypatch.setattr(manifest, "LONGEST", len(whole) // 2)
    digests = {line["name"]: line["sha256"] for line in lines(tmp_path)}
    for length in range(len(whole)):
        for tail in (b"", b"\0\0\0"):  # what a power cut leaves
            (tmp_path / manifest.NAME).write_bytes(whole[:length] + tail)
            manifest.note(tmp_path, {names[2]: WRITTEN})
            assert len(lines(tmp_path)) == 3
            assert {line["name"]: line["sha256"] for line in lines(tmp_path)} == digests


def test_an_upgraded_folder_gets_its_lines_over_some_runs_the_new_files_first(tmp_path: Path) -> None:
    names = [dated(tmp_path, day, rows=100) for day in range(1, 8)]
    size = (tmp_path / names[0]).stat().st_size
    assert manifest.note(tmp_path, {names[6]: WRITTEN}, most=2 * size) == 3
    assert [line["name"] for line in lines(tmp_path)] == [names[6], *names[:2]]
    while manifest.note(tmp_path, most=2 * size):
        pass
    assert [line["name"] for line in lines(tmp_path)] == [names[6], *names[:6]]


def test_what_the_collector_changed_later_is_a_line_of_its_own_and_the_latest_counts(tmp_path: Path) -> None:
    erased, removed, unknown = (dated(tmp_path, day) for day in (21, 22, 23))
    (tmp_path / unknown).rename(tmp_path / "elsewhere")
    manifest.note(tmp_path)
    before = manifest.latest(tmp_path)
    dated(tmp_path, 21, rows=3)
    (tmp_path / removed).unlink()
    for _ in range(2):  # repeated after a crash
        manifest.note_change(tmp_path, manifest.ERASED, [erased])
        manifest.note_change(tmp_path, manifest.REMOVED, [removed, unknown])
    noted = [(erased, None), (removed, None), (erased, "erased"), (removed, "removed")]
    assert [(line["name"], line.get("change")) for line in lines(tmp_path)] == noted
    assert manifest.latest(tmp_path)[erased].rows == 3 != before[erased].rows
    assert manifest.note(tmp_path) == 0


@contextmanager
def little_room(size: int) -> Iterator[None]:
    """No file that this process writes gets longer, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_of_a_line_that_a_full_disk_cuts_nothing_stays(tmp_path: Path) -> None:
    dated(tmp_path, 21)
    manifest.note(tmp_path)
    whole = (tmp_path / manifest.NAME).read_bytes()
    dated(tmp_path, 22)
    with little_room(len(whole) + 50), pytest.raises(OSError, match="File too large"):
        manifest.note(tmp_path)
    assert (tmp_path / manifest.NAME).read_bytes() == whole


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_file_of_ours_is_refused_and_nothing_hangs(kind: str, tmp_path: Path) -> None:
    dated(tmp_path, 21)
    OTHERS[kind](tmp_path / manifest.NAME)
    with pytest.raises(CollectorError, match=r"manifest\.jsonl is a"):
        manifest.note(tmp_path)


def test_a_fifo_and_a_link_named_as_dated_files_and_files_of_a_user_s_have_no_line(tmp_path: Path) -> None:
    (tmp_path / "mine_pexHistoryPart.csv").touch()
    os.mkfifo(tmp_path / "2026-11-20_00-05-00_pexHistoryPart.csv")
    name = dated(tmp_path, 21)
    (tmp_path / "2026-11-19_00-05-00_pexHistoryPart.csv").symlink_to(tmp_path / name)
    assert manifest.note(tmp_path) == 1
    assert [line["name"] for line in lines(tmp_path)] == [name]


def test_lines_that_nobody_can_read_are_passed_over(tmp_path: Path) -> None:
    names = [dated(tmp_path, day) for day in (21, 22)]
    odd = ["[1]", "null", '{"name": "../etc/passwd", "rows": 1}', '{"name": 3}', "[" * 100_000, "\x00" * 9, "{"]
    (tmp_path / manifest.NAME).write_text("\n".join([*odd, ""]))
    assert manifest.note(tmp_path) == 2
    assert list(manifest.latest(tmp_path)) == names
