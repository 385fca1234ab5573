"""Data folders as they are found: no matter who owns them, the runs can write to them."""

from __future__ import annotations

import pytest

from .conftest import HARDENED, Engine, docker

FLAGS = pytest.mark.parametrize("flags", [(), HARDENED], ids=["plain", "hardened"])


@FLAGS
def test_a_folder_that_docker_made_as_root_is_handed_over(engine: Engine, flags: tuple[str, ...]) -> None:
    data = engine.data()
    code, logs = engine.run("collect", env=engine.settings(), data=data, flags=flags)
    assert code == 0, logs
    assert set(engine.files(data).values()) == {"1000:1000"}
    assert engine.sh(f"stat -c %u:%g {data}") == "1000:1000\n"


@FLAGS
def test_a_folder_closed_to_all_but_its_owner_keeps_him(engine: Engine, flags: tuple[str, ...]) -> None:
    data = engine.data("1001:1002", "700")
    code, logs = engine.run("collect", env=engine.settings(), data=data, flags=flags)
    assert code == 0, logs
    assert set(engine.files(data).values()) == {"1001:1002"}
    assert engine.sh(f"stat -c %u:%g:%a {data}") == "1001:1002:700\n"


@FLAGS
def test_roots_files_of_ours_are_taken_over_and_no_others(engine: Engine, flags: tuple[str, ...]) -> None:
    data = engine.data("1001:1001", "700")
    engine.sh(
        f"""cd {data}; umask 077
        mkdir .collector .collector/deep own; touch .collector/deep/left
        for name in pexHistoryConf.csv 2026-11-01_00-00-00_pexHistoryPart.csv data_collector.log.1 \\
            notes.txt own/pexHistoryConf.csv; do echo >$name; done
        ln -s /etc/passwd data_collector.log.2"""
    )
    code, logs = engine.run("collect", env=engine.settings(), data=data, flags=flags)
    assert code == 0, logs
    files = engine.files(data)
    kept = {name for name, owner in files.items() if owner == "0:0"}
    assert kept == {"notes.txt", "own", "own/pexHistoryConf.csv", "data_collector.log.2"}
    assert {owner for name, owner in files.items() if name not in kept} == {"1001:1001"}


@FLAGS
def test_another_puid_takes_over_what_an_earlier_one_wrote(engine: Engine, flags: tuple[str, ...]) -> None:
    data = engine.data("1001:1001", "700")
    for puid in ("1001", "1500"):
        code, logs = engine.run("collect", env=engine.settings(PUID=puid), data=data, flags=flags)
        assert code == 0, logs
        assert {owner.split(":")[0] for owner in engine.files(data).values()} == {puid}


def test_a_folder_that_cannot_be_handed_over_is_explained(engine: Engine) -> None:
    """Without CHOWN, as on a share whose server refuses."""
    data = engine.data("0:0")
    flags = ("--cap-drop", "ALL", "--cap-add", "SETUID", "--cap-add", "SETGID")
    for arguments in ((), ("collect",)):
        code, logs = engine.run(*arguments, env=engine.settings(), data=data, flags=flags)
        assert code == 2
        assert "/app/data belongs to 0:0, mode 755: 1000:1000 cannot write there" in logs


def test_a_read_only_folder_is_explained(engine: Engine) -> None:
    code, logs = engine.run("collect", env=engine.settings(), flags=HARDENED, mount=False)
    assert code == 2
    assert "cannot write there. Mount a folder that is not read-only" in logs


def test_a_file_that_cannot_be_handed_over_is_named(engine: Engine) -> None:
    data = engine.data("1000:1000")
    engine.sh(f"umask 022; touch {data}/pexHistoryConf.csv")
    flags = ("--cap-drop", "ALL", "--cap-add", "SETUID", "--cap-add", "SETGID")
    code, logs = engine.run("collect", env=engine.settings(), data=data, flags=flags)
    assert code == 2
    assert "user 1000:1000 cannot write to /app/data/pexHistoryConf.csv" in logs


def test_a_named_volume_begins_as_the_collecting_users(engine: Engine) -> None:
    words = ("run", "--rm", "-v", "/app/data", "--entrypoint", "stat", engine.image)
    assert docker(*words, "-c", "%u:%g", "/app/data") == "1000:1000\n"
