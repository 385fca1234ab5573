"""Root becomes the data folder's owner, for good, and what is in memory stays there."""

from __future__ import annotations

import os
import re
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pexip_history.container import privileges
from pexip_history.container.privileges import Asked, become_owner, go_on_as, owner_of, protect_memory, refuse_shared
from pexip_history.errors import CollectorError

from .privileged import as_root, in_child, open_to_all, others_may_enter

ROOT = Path(__file__).resolve().parents[1]
SECRET = "sesame, open"


@pytest.fixture(autouse=True)
def as_in_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """There a folder of root's is for user 1000; on a plain host root stays root."""
    monkeypatch.setattr(privileges, "SOMEONE", 1000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = open_to_all(tmp_path) / "data"
    made.mkdir(mode=0o755)
    return made


def status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}


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
    ],
)
def test_root_becomes_puid_else_the_owner_else_1000_and_stays_root_by_puid_0_alone(
    folder: Path, owner: tuple[int, int], asked: Asked, expected: tuple[int, int] | None
) -> None:
    os.chown(folder, *owner)
    assert owner_of(folder, asked) == expected


def test_a_folder_that_is_yet_to_be_made_is_for_user_1000(tmp_path: Path) -> None:
    assert owner_of(tmp_path / "none", (None, None)) == (1000, 1000)


@as_root
def test_nothing_of_root_is_left_and_nothing_comes_back(folder: Path) -> None:
    os.chown(folder, 4242, 4343)

    def become() -> tuple[dict[str, str], list[str]]:
        os.setgroups([4, 24])
        go_on_as(folder, (None, None))
        came_back = []
        for way in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]), lambda: os.chroot("/")):
            try:
                way()
                came_back.append(str(way))
            except PermissionError:
                pass
        return status(), came_back

    found, came_back = in_child(become)
    assert found["Uid"] == "4242 4242 4242 4242"
    assert found["Gid"] == "4343 4343 4343 4343"
    assert found["Groups"] == ""
    assert found["NoNewPrivs"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(found[kind], 16) == 0, kind
    assert came_back == []


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
    try:
        assert run.stdout
        assert run.stdout.readline() == b"ready\n"
        for name in ("environ", "mem", "maps", "auxv"):
            with pytest.raises(PermissionError):
                in_child((Path(f"/proc/{run.pid}") / name).read_bytes, uid=4242)
        with pytest.raises(PermissionError):
            in_child(lambda: list(Path(f"/proc/{run.pid}/fd").iterdir()), uid=4242)
        assert SECRET.encode() in Path(f"/proc/{run.pid}/environ").read_bytes(), (
            "root sees it there: the test looks well"
        )
    finally:
        run.communicate(b"\n", timeout=20)


def test_no_core_dump_and_no_file_of_tls_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))

    def protected() -> tuple[object, ...]:
        protect_memory()
        import ssl

        return resource.getrlimit(resource.RLIMIT_CORE), ssl.create_default_context().keylog_filename

    assert in_child(protected) == ((0, 0), None)


@as_root
def test_without_the_capabilities_the_fix_is_named(folder: Path) -> None:
    from pexip_history.container.privileges import CAP_CHOWN, set_capabilities

    def become() -> None:
        assert set_capabilities(CAP_CHOWN)
        go_on_as(folder, (4242, None))

    with pytest.raises(CollectorError, match=re.escape("CHOWN, SETGID and SETUID (cap_add)")):
        in_child(become)


@as_root
def test_files_of_settings_that_root_alone_may_read_are_read_before_and_no_other_file_is(folder: Path) -> None:
    """The CA's file lies beside the password's, in a folder that is closed to all but root."""
    os.chown(folder, 4242, 4242)
    names = (
        *("DEFAULT_MGR_SECRET_FILE", "DEFAULT_MGR_CLIENT_KEY_FILE", "DEFAULT_MGR_CA_FILE"),
        *("DATA_PING_URL_FILE", "DATA_NOTIFY_URLS_FILE"),
    )
    environ = {"DATA_DIR": str(folder), "REQUESTS_CA_BUNDLE": str(folder.parent / "ca.pem")}
    for name in names:
        path = folder.parent / name
        path.write_text(f"what {name} holds")
        path.chmod(0o400)
        environ[name] = f"'{path}'"
    (folder.parent / names[-1]).write_text("")
    (folder.parent / "ca.pem").write_text("")

    def become() -> tuple[dict[str, bytes], int]:
        return become_owner(environ), os.geteuid()

    if not others_may_enter(ROOT, Path(sys.executable).resolve()):
        with pytest.raises(CollectorError, match="a part of the program: install Python and the collector where"):
            in_child(become)
        pytest.skip("needs a clone, and a Python, that others may enter; tests/image holds the same")
    held, user = in_child(become)
    assert held == {name: f"what {name} holds".encode() for name in names[:-1]} | {names[-1]: b""}
    assert user == 4242


@as_root
def test_where_it_is_unclear_who_is_to_collect_nothing_changes(folder: Path) -> None:
    for wrong in ({"PUID": "4294967295"}, {"PGID": "x"}, {"DATA_DIR": "/etc"}):
        environ = {"DATA_DIR": str(folder)} | wrong
        assert in_child(lambda environ=environ: (become_owner(environ), os.geteuid())) == ({}, 0)


# Root that stays root

CASES = {
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
@pytest.mark.parametrize("case", CASES)
def test_root_collects_into_no_folder_that_others_can_write(folder: Path, case: str) -> None:
    name, uid, mode, fix = CASES[case]
    (folder / ".collector").mkdir(mode=0o700)
    refuse_shared(folder)
    place = folder.parent / name
    os.chown(place, uid, 0)
    place.chmod(mode)
    with pytest.raises(CollectorError, match=re.escape(f"{place} ")) as error:
        in_child(lambda: go_on_as(folder, (0, None)))
    assert fix in str(error.value)


@as_root
def test_root_collects_into_its_own_folder_below_a_sticky_one(folder: Path) -> None:
    folder.parent.chmod(0o1777)
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o1777
    assert in_child(lambda: (go_on_as(folder, (0, None)), os.geteuid())[1]) == 0


@as_root
@pytest.mark.parametrize("asked", [(None, None), (0, None), (4711, None)])
def test_root_goes_over_no_link_to_the_data_folder(folder: Path, asked: Asked) -> None:
    """The user who made the link would say as whom, and where, root collects."""
    link = folder.parent / "link"
    link.symlink_to(folder.parent)
    with pytest.raises(CollectorError, match=f"is behind a symbolic link; give the real path, {folder}"):
        in_child(lambda: go_on_as(link / "data", asked))
