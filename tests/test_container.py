"""The entrypoint's errands: handing over what is ours in the data folder and nothing else, and stopping a run."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pexip_history.container import errands as container
from pexip_history.container import privileges
from pexip_history.container.privileges import Asked, Owner
from pexip_history.errors import CollectorError

from .conftest import ROOT
from .privileged import as_root, in_child, open_to_all

pytestmark = as_root
NOBODY_SAID: Asked = (None, None)


@pytest.fixture(autouse=True)
def as_in_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """There a folder of root's is for user 1000; on a plain host root stays root."""
    monkeypatch.setattr(privileges, "SOMEONE", 1000)


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """What hangs fails."""
    signal.alarm(20)
    yield
    signal.alarm(0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that stands for the image's own: a test's folder is on no mount."""
    made = open_to_all(tmp_path) / "data"
    made.mkdir()
    made.chmod(0o755)
    monkeypatch.setattr(container, "IMAGE_DATA", made)
    return made


def take_over(folder: Path, asked: Asked = NOBODY_SAID) -> None:
    in_child(lambda: container.take_over(folder, asked))


def owners(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_uid for path in folder.rglob("*")}


def test_what_the_collector_wrote_is_handed_over_and_no_other_file(folder: Path) -> None:
    for name in (".collector", ".collector/deep", "own"):
        (folder / name).mkdir(mode=0o700)
    (folder / "parquet" / "streams").mkdir(parents=True)
    ours = ("pexHistoryConf.csv", "2026-11-01_00-00-00_pexHistoryPart.csv", "data_collector.log.1", "report.html")
    ours += ("report-2026-10.html", "manifest.jsonl", "parquet/streams/2026-11-01_00-00-00.parquet")
    theirs = ("notes.txt", "own/pexHistoryConf.csv")
    for name in (*ours, *theirs, ".collector/ledger.sqlite", ".collector/deep/left"):
        (folder / name).write_text("")
        (folder / name).chmod(0o600)
    take_over(folder)
    found = owners(folder)
    assert folder.stat().st_uid == 1000
    assert {name for name, uid in found.items() if uid == 0} == {*theirs, "own"}
    assert set(found.values()) == {0, 1000}


def test_who_is_not_root_hands_nothing_over_and_is_refused_nothing(folder: Path) -> None:
    in_child(lambda: container.take_over(folder, NOBODY_SAID), 12345)


def test_links_hard_links_and_fifos_are_left_alone(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "shadow"
    target.write_text("root's")
    (tmp_path / "etc").mkdir()
    (folder / "pexHistoryConf.csv").symlink_to(target)
    (folder / "data_collector.log").hardlink_to(target)
    target.chmod(0o666)  # else the start explains itself: below
    os.mkfifo(folder / "pexHistoryPart.csv")
    (folder / ".collector").symlink_to(tmp_path / "etc")
    (tmp_path / "etc" / "ledger.sqlite").write_text("")
    take_over(folder)
    assert set(owners(folder).values()) == {0}
    assert owners(tmp_path / "etc") == {"ledger.sqlite": 0}
    assert target.stat().st_uid == 0


def test_a_hard_link_that_the_owner_cannot_write_is_explained(folder: Path) -> None:
    (folder.parent / "shadow").write_text("")
    (folder / "pexHistoryConf.csv").hardlink_to(folder.parent / "shadow")
    with pytest.raises(
        CollectorError, match=r"user 1000:1000 cannot write to .*pexHistoryConf.csv, and it has a hard link"
    ):
        take_over(folder)


def test_a_hard_link_that_is_taken_away_in_between_is_not_handed_over(folder: Path) -> None:
    """The race of find's -links 1 and -execdir: that what was opened has one name is not enough."""
    target, path = folder.parent / "shadow", folder / "pexHistoryConf.csv"
    for after in ("nothing", "a file"):
        target.write_text("root's")
        path.hardlink_to(target)
        entry = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        path.unlink()
        if after == "a file":
            path.write_text("")
        assert os.fstat(entry).st_nlink == 1
        container.hand_over(entry, Owner(1000, 1000))
        assert target.stat().st_uid == 0
        os.close(entry)


@pytest.mark.parametrize("way", ["the folder", "on the way"])
def test_a_data_folder_behind_a_link_is_refused_with_its_own_name(folder: Path, tmp_path: Path, way: str) -> None:
    """DATA_DIR below a mount, where the owner of the mount made a link."""
    etc = tmp_path / "etc"
    (etc / "data").mkdir(parents=True)
    (folder / "link").symlink_to(etc / "data" if way == "the folder" else etc)
    asked = folder / "link" if way == "the folder" else folder / "link" / "data"
    with pytest.raises(CollectorError, match=f"is behind a symbolic link; give the real path, {etc}/data"):
        take_over(asked)
    assert etc.stat().st_uid == (etc / "data").stat().st_uid == 0


def test_a_folder_that_the_image_brought_is_not_given_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "IMAGE_DATA", Path("/app/data"))
    if folder.stat().st_dev != Path("/").stat().st_dev:
        pytest.skip("the test's folder is on a mount")
    with pytest.raises(CollectorError, match=f"{folder} belongs to 0:0, mode 755: 1000:1000 cannot write there"):
        take_over(folder)
    assert folder.stat().st_uid == 0
    take_over(folder.parent / "made" / "again")
    assert (folder.parent / "made" / "again").stat().st_uid == 1000


@pytest.mark.parametrize("mounted", [False, True])
def test_a_data_folder_that_its_owner_could_not_reach_is_refused_and_not_made(folder: Path, mounted: bool) -> None:
    closed = folder.parent / "root"
    closed.mkdir()
    closed.chmod(0o700)
    path = closed / "calls" / "data"
    if mounted:
        path.mkdir(parents=True)
    with pytest.raises(
        CollectorError, match=rf"DATA_DIR: {path} cannot be reached by user 1000:1000, since {closed} is"
    ):
        take_over(path)
    assert path.exists() is mounted


# The entrypoint itself


SCRIPT = (ROOT / "entrypoint.sh").read_text()


def entrypoint(script: str, *arguments: str, user: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script, "entrypoint.sh", *arguments],
        user=user,
        group=user,
        extra_groups=[],
        env={"PATH": os.environ["PATH"], **environ},
        cwd="/",
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", ["DEFAULT_MGR_SECRET", "DATA_PING_URL", "DATA_NOTIFY_URLS"])
@pytest.mark.parametrize("argument", ["collect", "check", "scheduled", None])
def test_a_secret_in_the_environment_of_a_container_that_is_not_roots_is_refused(
    name: str, argument: str | None
) -> None:
    script = SCRIPT.replace("exec ", "echo ")
    arguments = [argument] if argument else []
    done = entrypoint(script, *arguments, user=4242, **{name: "s3cret"})
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(
        f"entrypoint: {name} is in the environment of a container that was started as user 4242"
    )
    assert f"name that in {name}_FILE, or start the container without --user" in done.stderr
    assert "s3cret" not in done.stderr
    for harmless in ({name: ""}, {f"{name}_FILE": "/run/secrets/x"}, {"DEFAULT_MGR_ADDRESS": "mgr"}):
        assert "is in the environment" not in entrypoint(script, "collect", user=4242, **harmless).stderr


def test_root_is_root_whatever_the_environment_says() -> None:
    script = SCRIPT.replace('_main "$@"', "root && echo root || echo other")
    for environ in ({}, {"EUID": "1000", "UID": "1000"}, {"EUID": "0", "UID": "0"}):
        assert entrypoint(script, **environ).stdout == "root\n"
        assert entrypoint(script, user=4242, **environ).stdout == "other\n"


def test_a_file_name_is_shown_without_what_moves_the_cursor(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.chown(folder, 1000, 1000)
    path = folder / "pexHistoryConf.csv\x1b[2J\x9b\u202e\n"
    path.write_text("")
    os.link(path, folder.parent / "other")
    environ = {"DATA_DIR": str(folder)}
    assert in_child(lambda: container.main("take-over", environ)) == 2
    said = capfd.readouterr().err
    assert r"pexHistoryConf.csv\x1b[2J\x9b\u202e\x0a, and it has a hard link" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("wrong", [{"PUID": "4294967295"}, {"PUID": "00"}, {"DATA_DIR": "/etc"}, {"DATA_DIR": "//etc"}])
def test_settings_that_are_wrong_touch_nothing(folder: Path, wrong: dict[str, str]) -> None:
    before = Path("/etc").stat().st_uid
    assert in_child(lambda: container.main("take-over", {"DATA_DIR": str(folder)} | wrong)) == 0
    assert folder.stat().st_uid == Path("/etc").stat().st_uid == before == 0


# Stopping a run


def held_lock(folder: Path, text: str) -> int:
    """`.collector/lock`, held by this process."""
    os.chown(folder, 4242, 4242)
    (folder / ".collector").mkdir()
    (folder / ".collector").chmod(0o755)
    path = folder / ".collector" / "lock"
    path.write_text(text)
    os.chown(path, 4242, 4242)
    lock = os.open(path, os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def stop(folder: Path) -> float:
    began = time.monotonic()
    in_child(lambda: container.stop(folder, NOBODY_SAID))
    return time.monotonic() - began


@pytest.fixture
def run(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of user 4242 that could be taken for a run, and holds the lock until it ends."""
    lock = held_lock(folder, "")
    words = ("sh", "-c", "exec 3>&-; while sleep 0.1; do :; done", "collector.py")
    process = subprocess.Popen(words, user=4242, group=4242, extra_groups=[], pass_fds=[lock], cwd="/")
    os.close(lock)
    yield process
    process.kill()
    process.wait()


def test_a_stop_ends_the_run_that_holds_the_lock_and_waits_for_it(folder: Path, run: subprocess.Popen[bytes]) -> None:
    (folder / ".collector" / "lock").write_text(f"{run.pid}\n")
    assert stop(folder) < 3
    assert run.wait(1) == -signal.SIGTERM


def test_a_run_that_has_not_yet_written_its_number_is_found_when_it_has(
    folder: Path, run: subprocess.Popen[bytes]
) -> None:
    path = folder / ".collector" / "lock"
    path.write_text("1\n")  # an older run's, and another program has it by now
    writer = subprocess.Popen(
        [sys.executable, "-c", f"import time; time.sleep(.3); open({str(path)!r}, 'w').write('{run.pid}')"]
    )
    assert stop(folder) < 3
    assert run.wait(1) == -signal.SIGTERM
    writer.wait()


def test_a_number_that_another_program_has_by_now_ends_nothing(folder: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"], user=4242, group=4242, extra_groups=[], cwd="/")
    try:
        lock = held_lock(folder, f"{bystander.pid}\n")
        assert 0.4 < stop(folder) < 3, "the lock is held: perhaps by another container's run"
        assert bystander.poll() is None
        os.close(lock)
    finally:
        bystander.kill()
        bystander.wait()


def test_a_lock_that_nobody_holds_ends_nothing(folder: Path, run: subprocess.Popen[bytes]) -> None:
    other = folder.parent / "other"
    other.mkdir()
    os.close(held_lock(other, f"{run.pid}\n"))
    stop(other)
    time.sleep(0.1)
    assert run.poll() is None


@pytest.mark.parametrize("kind", ["fifo", "link", "none"])
def test_a_stop_does_not_hang_where_the_lock_is_no_file(folder: Path, kind: str) -> None:
    os.chown(folder, 4242, 4242)
    (folder / ".collector").mkdir()
    if kind == "fifo":
        os.mkfifo(folder / ".collector" / "lock")
    elif kind == "link":
        (folder / ".collector" / "lock").symlink_to("/dev/tty")
    assert in_child(lambda: container.main("stop", {"DATA_DIR": str(folder)})) == 0
