"""What is opened in the data folder is a file, and no link that someone else made."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import pytest
import time_machine

from pexip_history.archive import aggregates, manifest
from pexip_history.archive.staging import Stage
from pexip_history.errors import SettingsError
from pexip_history.export import output as export
from pexip_history.export import parquet, pseudonyms
from pexip_history.folder import mounts, opening, rewriting
from pexip_history.folder.opening import NotAFile, behind_link, own, own_folder, refuse_other_kinds
from pexip_history.report import output as report
from pexip_history.settings.environment import IMAGE_DATA, read_settings
from pexip_history.settings.files import read_file

from .privileged import as_root, in_child, open_to_all

UTC = ZoneInfo("UTC")


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """What hangs fails."""
    signal.alarm(10)
    yield
    signal.alarm(0)


def link(path: Path) -> None:
    path.with_name("other").write_text("theirs")
    path.symlink_to("other")


def sock(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:  # its path may have 108 characters
        made.bind(path.name)


OTHERS: dict[str, Callable[[Path], object]] = {
    "a symbolic link": link,
    "a dangling symbolic link": lambda path: path.symlink_to("nowhere"),
    "a symbolic link to a FIFO": lambda path: (os.mkfifo(path.with_name("fifo")), path.symlink_to("fifo")),
    "a symbolic link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a named pipe": os.mkfifo,
    "a folder": lambda path: (path / "in it").mkdir(parents=True),
    "a socket": sock,
}
"""What may have the name of a file of ours."""


@pytest.mark.parametrize("mode", ["r", "a+", "wb", "r+b"])
@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_file_is_refused_at_once_and_named(
    tmp_path: Path, other: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    OTHERS[other](path)
    monkeypatch.setattr(os, "open", Mock(side_effect=AssertionError("opening can have effects")))
    kind = other.partition(" to ")[0].replace("dangling ", "")
    with pytest.raises(NotAFile, match=kind) as error, open(path, mode, opener=own):
        pass
    assert "remove it, or move it away" in str(error.value)
    with pytest.raises(NotAFile):
        refuse_other_kinds(path)
    assert not (tmp_path / "nowhere").exists()
    assert other != "a symbolic link" or (tmp_path / "other").read_text() == "theirs"


def test_a_file_is_opened_and_made_as_the_mask_says(tmp_path: Path) -> None:
    before = os.umask(0o020)
    try:
        with open(tmp_path / "new", "a+", opener=own) as file:
            file.write("rows")
    finally:
        os.umask(before)
    assert (tmp_path / "new").read_text() == "rows"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o646
    with pytest.raises(FileNotFoundError), open(tmp_path / "none", opener=own):
        pass
    refuse_other_kinds(tmp_path / "new")
    refuse_other_kinds(tmp_path / "none")


@pytest.mark.parametrize("other", OTHERS)
def test_what_takes_a_files_place_in_between_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    OTHERS[other](tmp_path / "lock")
    looks, look, before = [0], opening.other_kind, sorted(Path("/proc/self/fd").iterdir())
    monkeypatch.setattr(opening, "other_kind", lambda path: looks.pop() if looks else look(path))
    with pytest.raises(NotAFile), open(tmp_path / "lock", opener=own):
        pass
    assert sorted(Path("/proc/self/fd").iterdir()) == before, "nothing stays open"


def test_our_folder_is_made_and_is_no_link(tmp_path: Path) -> None:
    own_folder(tmp_path / "data" / "deep" / ".collector")
    own_folder(tmp_path / "data" / "deep" / ".collector")
    (tmp_path / "link").symlink_to("data")
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("link", "file", "dangling"):
        with pytest.raises(NotAFile, match="needs a folder of its own"):
            own_folder(tmp_path / name)
    assert not (tmp_path / "nowhere").exists()


OWNERS = {(4242, 4242, 4242), (4242, 0, 4242), (4242, 4242, 4711), (0, 0, 0)}
STRANGERS = {(4242, 4711, 4242), (0, 4242, 0)}


@as_root
@pytest.mark.parametrize(("folder_of", "link_of", "run_of"), sorted(OWNERS | STRANGERS))
def test_an_aggregate_on_another_volume_is_followed_where_the_folders_owner_or_root_put_the_link(
    tmp_path: Path, folder_of: int, link_of: int, run_of: int
) -> None:
    folder, volume = open_to_all(tmp_path) / "data", tmp_path / "volume"
    for made in (folder, volume):
        made.mkdir()
        made.chmod(0o777)
    os.chown(folder, folder_of, folder_of)
    path, target = folder / "pexHistoryConf.csv", volume / "calls.csv"
    path.symlink_to(target)
    os.lchown(path, link_of, link_of)
    if (folder_of, link_of, run_of) in OWNERS:
        assert in_child(lambda: behind_link(path), uid=run_of) == target
    else:
        with pytest.raises(NotAFile, match="is a symbolic link"):
            in_child(lambda: behind_link(path), uid=run_of)


def test_a_secret_file_may_be_behind_links_but_is_a_file_of_some_size(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "secret").write_bytes(b"sesame\n")
    (tmp_path / "secret").symlink_to("..data/secret")
    assert read_file(tmp_path / "secret") == b"sesame\n"
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"x" * (1 << 20) + b"x")
    for name in ("fifo", "large", ".", "none"):
        with pytest.raises(OSError, match=r"it is not a file|larger than|No such file|Is a directory"):
            read_file(tmp_path / name)
    with pytest.raises(OSError, match="it is not a file"):
        read_file(Path("/dev/zero"))


MOUNTED = [({"/"}, False), ({"/", "/app"}, True), ({"/app/data"}, True), ({"/app/data/deep"}, False), (set(), True)]


@pytest.mark.parametrize(("points", "mounted"), MOUNTED)
def test_a_run_in_a_container_that_would_take_its_files_along_is_refused_unless_cron_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: set[str], mounted: bool
) -> None:
    assert {"/", "/proc"} & mounts.mount_points()
    monkeypatch.setattr(mounts, "mount_points", lambda: points)
    monkeypatch.setattr(mounts, "CRON_PID", tmp_path / "crond.pid")
    (tmp_path / "link").symlink_to(IMAGE_DATA)
    for folder in (IMAGE_DATA, tmp_path / "link"):
        with nullcontext() if mounted else pytest.raises(SettingsError):
            mounts.refuse_to_lose(folder)
    mounts.refuse_to_lose(tmp_path)
    mounts.CRON_PID.touch()
    mounts.refuse_to_lose(IMAGE_DATA)


def made(path: Path, content: bytes = b"") -> Path:
    path.write_bytes(content)
    return path


def test_what_is_set_aside_takes_the_name_of_nothing_that_is_there(tmp_path: Path) -> None:
    with time_machine.travel(0, tick=False):
        first = aggregates.set_aside(made(tmp_path / "x"), "is another's", UTC)
        first.unlink()
        first.symlink_to("nowhere")
        assert aggregates.set_aside(made(tmp_path / "x"), "is another's", UTC).name == f"{first.name}-1"


def through(opened: AbstractContextManager[IO[bytes]]) -> None:
    with opened as file:
        file.write(b"1")


@pytest.mark.parametrize(
    ("write", "synced"),
    [
        (lambda data: through(rewriting.new_file(data / "x")), {"x.new", "."}),
        (lambda data: Stage(data / "x", ["id"], read_settings({}, node=False)).finish(), {"x"}),
        (
            lambda data: through(export.draft(data, data / "x")),
            {"x", ".", ".collector/export/written.jsonl.new", ".collector/export"},
        ),
        (pseudonyms.key, {".collector/export/pseudonyms.key.new", ".collector/export"}),
        (manifest.note, {"manifest.jsonl", "."}),
        (
            lambda data: aggregates.move_torn_row(made(data / "x", b"id\r\n1\r\n2"), 7, ["id"], UTC),
            {"x.unfinished.new", ".", "x"},
        ),
        # private: only publishing calls it
        (lambda data: aggregates._end_last_line(made(data / "x", b"id\r\n1")), {"x"}),
        (lambda data: aggregates.set_aside(made(data / "x"), "is another's", UTC), {"."}),
        (lambda data: report.write(data / "x", "<html>"), {"x"}),
        (
            # private: only making all that is missing calls it
            lambda data: parquet._place(made(data / "draft"), data, "conferences", "2026-11-24_00-05-00"),
            {"draft", "parquet/conferences"},
        ),
    ],
)
def test_what_is_written_is_synced_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object], synced: set[str]
) -> None:
    """What the recorded runs of test_power_cut do not come to."""
    found, sizes, sync = set(), {}, os.fsync

    def note(descriptor: int) -> None:
        name = os.path.relpath(Path(f"/proc/self/fd/{descriptor}").readlink(), tmp_path)
        found.add(re.sub(r"(?:^\.)(x)\.\d+\.new|-20[\d_-]+", r"\1", name))
        there = os.fstat(descriptor)
        sizes[there.st_ino] = there.st_size
        sync(descriptor)

    dated = tmp_path / "2026-11-24_00-05-00_pexHistoryConf.csv"
    dated.write_bytes(b"id,end_time\r\n")
    monkeypatch.setattr(os, "fsync", note)
    write(tmp_path)
    assert found == synced
    for path in tmp_path.rglob("*"):
        assert sizes.get(path.stat().st_ino, path.stat().st_size) == path.stat().st_size, "nothing was written later"
