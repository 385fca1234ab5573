"""Root becomes the data folder's owner, for good, hands over what is ours there and nothing else, and ends a run."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from pexip_history.container import errands, privileges
from pexip_history.container.privileges import CAP_CHOWN, Asked, Owner, become_owner, go_on_as, owner_of
from pexip_history.errors import CollectorError

from .harness import ROOT
from .privileged import as_root, in_child, open_to_all, others_may_enter

NOBODY_SAID: Asked = (None, None)
SECRET = "sesame, open"


@pytest.fixture(autouse=True)
def _as_in_the_image(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """There a folder of root's is for user 1000; on a plain host root stays root. What hangs fails."""
    monkeypatch.setattr(privileges, "SOMEONE", 1000)
    signal.alarm(20)
    yield
    signal.alarm(0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that stands for the image's own: a test's folder is on no mount."""
    made = open_to_all(tmp_path) / "data"
    made.mkdir()
    made.chmod(0o755)
    monkeypatch.setattr(errands, "IMAGE_DATA", made)
    return made


def take_over(folder: Path, asked: Asked = NOBODY_SAID) -> None:
    in_child(lambda: errands.take_over(folder, asked))


def owners(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_uid for path in folder.rglob("*")}


# Who collects


@as_root
@pytest.mark.parametrize(
    ("owner", "asked", "expected"),
    [
        ((4242, 4343), (None, None), (4242, 4343)),
        ((4242, 0), (None, None), (4242, 4242)),
        ((0, 0), (None, None), (1000, 1000)),
        ((0, 4343), (None, None), (1000, 1000)),
        ((4242, 4343), (4711, None), (4711, 4711)),
        ((4711, 4343), (4711, None), (4711, 4343)),
        ((4242, 4343), (None, 0), (4242, 0)),
        ((4242, 4343), (4294967294, 4294967294), (4294967294, 4294967294)),
        ((4242, 4343), (0, None), None),
        ((0, 0), (0, 4343), None),
        (None, (None, None), (1000, 1000)),
    ],
)
def test_root_becomes_puid_else_the_owner_else_1000_and_stays_root_by_puid_0_alone(
    folder: Path, owner: tuple[int, int] | None, asked: Asked, expected: tuple[int, int] | None
) -> None:
    os.chown(folder, *owner) if owner else folder.rmdir()
    assert owner_of(folder, asked) == expected


@as_root
def test_nothing_of_root_is_left_and_nothing_comes_back(folder: Path) -> None:
    os.chown(folder, 4242, 4343)

    def become() -> tuple[dict[str, str], list[str]]:
        os.setgroups([4, 24])
        go_on_as(folder, NOBODY_SAID)
        came_back = []
        for way in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]), lambda: os.chroot("/")):
            try:
                way()
                came_back.append(str(way))
            except PermissionError:
                pass
        lines = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
        return {name: " ".join(value.split()) for name, _, value in lines}, came_back

    found, came_back = in_child(become)
    assert came_back == []
    wanted = {"Uid": "4242 4242 4242 4242", "Gid": "4343 4343 4343 4343", "Groups": "", "NoNewPrivs": "1"}
    assert {name: found[name] for name in wanted} == wanted
    assert {int(found[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}


@as_root
@pytest.mark.parametrize("start", ["root", "owner"])
def test_the_same_user_can_read_neither_environment_nor_memory_of_a_run(folder: Path, start: str) -> None:
    if not others_may_enter(ROOT, Path(sys.executable).resolve()):
        pytest.skip("needs a clone, and a Python, that others may enter; tests/image holds the same")
    os.chown(folder, 4242, 4242)
    script = (
        "import sys; from pathlib import Path; from pexip_history.container.privileges import go_on_as, protect_memory;"
        "protect_memory(); go_on_as(Path(sys.argv[1]), (None, None)); print('ready', flush=True); input()"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        env={"PYTHONPATH": str(ROOT), "DEFAULT_MGR_SECRET": SECRET},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **({"user": 4242, "group": 4242, "extra_groups": []} if start == "owner" else {}),  # type: ignore[arg-type]
    )
    process = Path(f"/proc/{run.pid}")
    try:
        assert run.stdout
        assert run.stdout.readline() == b"ready\n"
        for name in ("environ", "mem", "maps", "auxv"):
            with pytest.raises(PermissionError):
                in_child((process / name).read_bytes, uid=4242)
        with pytest.raises(PermissionError):
            in_child(lambda: list((process / "fd").iterdir()), uid=4242)
        assert SECRET.encode() in (process / "environ").read_bytes(), "root sees it there: the test looks well"
    finally:
        run.communicate(b"\n", timeout=20)


def test_no_core_dump_and_no_file_of_tls_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))

    def protected() -> tuple[object, ...]:
        privileges.protect_memory()
        import ssl

        return resource.getrlimit(resource.RLIMIT_CORE), ssl.create_default_context().keylog_filename

    assert in_child(protected) == ((0, 0), None)


@as_root
def test_without_the_capabilities_the_fix_is_named(folder: Path) -> None:
    def become() -> None:
        assert privileges.set_capabilities(CAP_CHOWN)
        go_on_as(folder, (4242, None))

    with pytest.raises(CollectorError, match=re.escape("CHOWN, SETGID and SETUID (cap_add)")):
        in_child(become)


@as_root
@pytest.mark.parametrize("program", ["readable", "closed"])
def test_files_of_settings_that_root_alone_may_read_are_read_before_and_no_other_file_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """The CA's file lies beside the password's, in a folder that is closed to all but root."""
    monkeypatch.setattr("os.access", lambda path, mode: program == "readable")
    os.chown(folder, 4242, 4242)
    names = ("MGR_SECRET_FILE", "MGR_CLIENT_KEY_FILE", "MGR_CA_FILE")
    held = {f"DEFAULT_{name}": name for name in names} | {"DATA_PING_URL_FILE": "ping", "DATA_NOTIFY_URLS_FILE": ""}
    environ = {"DATA_DIR": str(folder), "REQUESTS_CA_BUNDLE": str(folder.parent / "ca.pem")}
    (folder.parent / "ca.pem").touch()
    for name, text in held.items():
        path = folder.parent / name
        path.write_text(text)
        path.chmod(0o400)
        environ[name] = f"'{path}'"

    def become() -> tuple[dict[str, bytes], int]:
        return become_owner(environ), os.geteuid()

    if program == "closed":
        with pytest.raises(CollectorError, match="a part of the program: install Python and the collector where"):
            in_child(become)
    else:
        assert in_child(become) == ({name: text.encode() for name, text in held.items()}, 4242)


@as_root
@pytest.mark.parametrize(
    "wrong", [{"PUID": "4294967295"}, {"PUID": "00"}, {"PGID": "x"}, {"DATA_DIR": "/etc"}, {"DATA_DIR": "//etc"}]
)
def test_where_it_is_unclear_who_is_to_collect_nothing_changes(folder: Path, wrong: dict[str, str]) -> None:
    environ = {"DATA_DIR": str(folder)} | wrong
    assert in_child(lambda: (become_owner(environ), os.geteuid())) == ({}, 0)
    assert in_child(lambda: errands.main("take-over", environ)) == 0
    assert folder.stat().st_uid == Path("/etc").stat().st_uid == 0


# Root that stays root

SHARED = {
    "writable by all": ("data", 0, 0o777, "chmod go-w"),
    "writable by the group": ("data", 0, 0o775, "chmod go-w"),
    "sticky and writable by all": ("data", 0, 0o1777, "chmod go-w"),
    "another's": ("data", 4242, 0o755, "set PUID=4242"),
    "another's above": ("", 4242, 0o755, "set PUID=4242"),
    "writable above": ("", 0, 0o777, "chmod go-w"),
    "another's .collector": ("data/.collector", 4242, 0o700, "set PUID=4242"),
    "writable .collector": ("data/.collector", 0, 0o770, "chmod go-w"),
}


@as_root
@pytest.mark.parametrize("case", SHARED)
def test_root_collects_into_no_folder_that_others_can_write(folder: Path, case: str) -> None:
    name, uid, mode, fix = SHARED[case]
    (folder / ".collector").mkdir(mode=0o700)
    folder.parent.chmod(0o1777)  # sticky, as /tmp is
    assert in_child(lambda: (go_on_as(folder, (0, None)), os.geteuid())[1]) == 0
    place = folder.parent / name
    os.chown(place, uid, 0)
    place.chmod(mode)
    with pytest.raises(CollectorError, match=re.escape(f"{place} ")) as error:
        in_child(lambda: go_on_as(folder, (0, None)))
    assert fix in str(error.value)


# What is handed over


@as_root
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
    take_over(folder, (0, None))
    assert set(owners(folder).values()) == {0}, "PUID=0 asks for that"
    in_child(lambda: errands.take_over(folder, NOBODY_SAID), 12345)
    assert set(owners(folder).values()) == {0}, "who is not root hands nothing over, and is refused nothing"

    opened = Path("/proc/self/fd")

    def taken_over() -> int:
        before = len([*opened.iterdir()])
        errands.take_over(folder, NOBODY_SAID)
        return len([*opened.iterdir()]) - before

    assert in_child(taken_over) == 1, "the folder alone is held open"
    found = owners(folder)
    assert folder.stat().st_uid == 1000
    assert {name for name, uid in found.items() if uid == 0} == {*theirs, "own"}
    assert set(found.values()) == {0, 1000}


@as_root
def test_links_hard_links_and_fifos_are_left_alone(folder: Path, tmp_path: Path) -> None:
    target, alone, etc = tmp_path / "shadow", tmp_path / "passwd", tmp_path / "etc"
    target.write_text("root's")
    alone.write_text("root's, under this name alone")
    etc.mkdir()
    (folder / "pexHistoryConf.csv").symlink_to(alone)
    (folder / "data_collector.log").hardlink_to(target)
    target.chmod(0o666)  # else the start explains itself: below
    os.mkfifo(folder / "pexHistoryPart.csv")
    (folder / ".collector").symlink_to(etc)
    (etc / "ledger.sqlite").write_text("")
    take_over(folder)
    theirs = {path.stat().st_uid for path in (target, alone, etc)}
    assert {*owners(folder).values(), *owners(etc).values(), *theirs} == {0}


@as_root
@pytest.mark.parametrize("after", ["nothing", "a file"])
def test_a_hard_link_that_is_taken_away_in_between_is_not_handed_over(folder: Path, after: str) -> None:
    """The race of find's -links 1 and -execdir: that what was opened has one name is not enough."""
    target, path = folder.parent / "shadow", folder / "pexHistoryConf.csv"
    target.write_text("root's")
    path.hardlink_to(target)
    entry = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    path.unlink()
    if after == "a file":
        path.write_text("")
    assert os.fstat(entry).st_nlink == 1
    errands.hand_over(entry, Owner(1000, 1000))
    assert target.stat().st_uid == 0
    os.close(entry)


LINK, MAKE = "is behind a symbolic link; give the real path, {above}/etc", "mkdir -p ../root/calls; chmod 700 ../root"
CLOSED = "DATA_DIR: {path} cannot be reached by user 1000:1000, since {above}/root is"
REFUSED = {
    "a hard link": (
        "touch ../shadow; ln ../shadow pexHistoryConf.csv",
        ".",
        "user 1000:1000 cannot write to .*pexHistoryConf.csv, and it has a hard link",
    ),
    # DATA_DIR below a mount, where the owner of the mount made a link
    "behind a link": ("mkdir ../etc; ln -s ../etc link", "link", LINK),
    "a link on the way": ("mkdir -p ../etc/data; ln -s ../etc link", "link/data", f"{LINK}/data"),
    "closed to its owner": (f"{MAKE}; mkdir ../root/calls/data", "../root/calls/data", CLOSED),
    "closed, and not there": (MAKE, "../root/calls/data", CLOSED),
    # the image brought it, so it is not the user's to give away, whatever DATA_DIR says
    "of the image": (
        "mkdir ../brought; chmod 755 ../brought",
        "../brought",
        "{path} belongs to 0:0, mode 755: 1000:1000 cannot write there",
    ),
}


@as_root
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_handed_over_is_refused_with_its_reason_and_stays_as_it_is(folder: Path, case: str) -> None:
    script, place, says = REFUSED[case]
    if case == "of the image" and folder.stat().st_dev != Path("/").stat().st_dev:
        pytest.skip("the test's folder is on a mount")
    subprocess.run(["sh", "-euc", script], cwd=folder, check=True)
    path = Path(os.path.normpath(folder / place))
    says = says.format(path=path, above=folder.parent)
    was_there = path.exists()
    with pytest.raises(CollectorError, match=says):
        take_over(path)
    assert path.exists() is was_there
    assert path == folder or not was_there or path.stat().st_uid == 0
    for asked in (NOBODY_SAID, (0, None), (4711, None)) if "link" in place else ():
        with pytest.raises(CollectorError, match=says):
            in_child(lambda asked=asked: go_on_as(path, asked))


@as_root
def test_a_file_whose_owner_cannot_be_changed_is_named_as_such(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "hand_over", lambda *what: None)
    os.chown(folder, 1000, 1000)
    (folder / "pexHistoryConf.csv").touch()
    with pytest.raises(
        CollectorError, match=r"cannot write to .*pexHistoryConf.csv, and its owner could not be changed"
    ):
        take_over(folder)


@as_root
def test_an_errand_protects_its_memory_first_of_all(folder: Path) -> None:
    dumpable = 3  # PR_GET_DUMPABLE
    environ = {"DATA_DIR": str(folder)}
    done = in_child(lambda: (errands.main("take-over", environ), privileges.LIBC.prctl(dumpable, 0, 0, 0, 0)), uid=4242)
    assert done == (0, 0)


@as_root
def test_a_data_folder_that_is_not_there_is_made_for_its_owner(folder: Path) -> None:
    path = folder.parent / "made" / "again"
    take_over(path)
    assert path.stat().st_uid == 1000


@as_root
def test_a_file_name_is_shown_without_what_moves_the_cursor(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.chown(folder, 1000, 1000)
    path = folder / "pexHistoryConf.csv\x1b[2J\x9b\u202e\n"
    path.write_text("")
    os.link(path, folder.parent / "other")
    assert in_child(lambda: errands.main("take-over", {"DATA_DIR": str(folder)})) == 2
    said = capfd.readouterr().err
    assert r"pexHistoryConf.csv\x1b[2J\x9b\u202e\x0a, and it has a hard link" in said
    assert said.count("\n") == 1


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


@as_root
@pytest.mark.parametrize("name", ["DEFAULT_MGR_SECRET", "DATA_PING_URL", "DATA_NOTIFY_URLS"])
def test_a_secret_in_the_environment_of_a_container_that_is_not_roots_is_refused(name: str) -> None:
    script = SCRIPT.replace("exec ", "echo ")
    for arguments in (["collect"], ["scheduled"], []):
        done = entrypoint(script, *arguments, user=4242, **{name: "s3cret"})
        assert (done.returncode, done.stdout) == (2, "")
        said = f"entrypoint: {name} is in the environment of a container that was started as user 4242"
        assert done.stderr.startswith(said)
        assert f"name that in {name}_FILE, or start the container without --user" in done.stderr
        assert "s3cret" not in done.stderr
    harmless = {name: "", f"{name}_FILE": "/run/secrets/x", "DEFAULT_MGR_ADDRESS": "mgr"}
    assert "is in the environment" not in entrypoint(script, "collect", user=4242, **harmless).stderr


@as_root
def test_root_is_root_whatever_the_environment_says() -> None:
    script = SCRIPT.replace('_main "$@"', "root && echo root || echo other")
    for environ in ({}, {"EUID": "1000", "UID": "1000"}, {"EUID": "0", "UID": "0"}):
        assert entrypoint(script, **environ).stdout == "root\n"
        assert entrypoint(script, user=4242, **environ).stdout == "other\n"


# Stopping a run


@pytest.fixture
def lock(folder: Path) -> Iterator[IO[str]]:
    """`.collector/lock`, which this process holds until the test ends; it names process 1."""
    os.chown(folder, 4242, 4242)
    (folder / ".collector").mkdir()
    (folder / ".collector").chmod(0o755)
    path = folder / ".collector" / "lock"
    path.write_text("1\n")
    os.chown(path, 4242, 4242)
    with path.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield held


@pytest.fixture
def run(lock: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of user 4242 that could be taken for a run and has the lock too; it takes a while to end."""
    script = "trap 'sleep 0.2; exit 3' TERM; echo ready; while :; do sleep 0.01; done"
    words = ("sh", "-c", script, "collector.py")
    who: dict[str, Any] = {"user": 4242, "group": 4242, "extra_groups": []}
    with subprocess.Popen(words, pass_fds=[lock.fileno()], cwd="/", stdout=subprocess.PIPE, **who) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def stop(lock: IO[str], for_number: float = 60, for_run: float = 60, ends: bool = True) -> None:
    """What the entrypoint does at a stop; it waits so many seconds for a number and for a run, and may end one."""

    def errand() -> int:
        errands.WAIT_FOR_NUMBER, errands.WAIT_FOR_RUN = for_number, for_run
        if not ends:
            del os.kill
        return errands.main("stop", {"DATA_DIR": str(Path(lock.name).parent.parent)})

    assert in_child(errand) == 0


@as_root
@pytest.mark.parametrize("number", ["written", "not yet written"])
def test_a_stop_ends_the_run_that_holds_the_lock_and_waits_for_it(
    lock: IO[str], run: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    """Until a run wrote its number there is an older one's, which another program has by now."""
    path, is_a_run = Path(lock.name), errands._is_a_run  # private: the moment at which it looks at that
    monkeypatch.setattr(errands, "_is_a_run", lambda one: is_a_run(one) or not path.write_text(f"{run.pid}\n"))
    if number == "written":
        path.write_text(f"{run.pid}\n")
    lock.close()
    stop(lock)
    with path.open() as free:
        fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert run.wait() == 3


@as_root
def test_a_stop_waits_no_longer_than_docker_does(lock: IO[str], run: subprocess.Popen[bytes]) -> None:
    """The lock is held on and on, perhaps by another container's run."""
    stop(lock, for_number=0.05, ends=False)
    Path(lock.name).write_text(f"{run.pid}\n")
    stop(lock, for_run=0.05)


@as_root
def test_a_lock_that_nobody_holds_ends_nothing(lock: IO[str], run: subprocess.Popen[bytes]) -> None:
    Path(lock.name).unlink()
    Path(lock.name).write_text(f"{run.pid}\n")
    stop(lock, ends=False)


@as_root
@pytest.mark.parametrize("kind", ["fifo", "link", "none"])
def test_a_stop_does_not_hang_where_the_lock_is_no_file(lock: IO[str], kind: str) -> None:
    path = Path(lock.name)
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/tty")
    stop(lock)
