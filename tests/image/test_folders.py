"""Data folders as they are found: no matter who owns them, the runs can write to them. And whose owner means ill.

What is handed over and what is refused, case by case, is tests/test_container.py's.
"""

from __future__ import annotations

import pytest

from .conftest import HARDENED, Engine, both_ways, docker

# As on a share whose server refuses chown, here without a read-only root: what root wrote would show.
REFUSING = ("--cap-drop", "CHOWN")


@both_ways
@pytest.mark.parametrize(
    ("owner", "puid", "becomes"),
    [("", "", "1000:1000 755"), ("1001:1002", "", "1001:1002 700"), ("1001:1001", "1500", "1500:1500 700")],
    ids=["made by Docker as root's", "closed to all but its owner", "another PUID than before"],
)
def test_a_folder_is_its_owners_or_puids_and_so_is_what_is_written(
    engine: Engine, flags: tuple[str, ...], owner: str, puid: str, becomes: str
) -> None:
    data = engine.data(owner, "700")
    engine.collect(data, flags)
    engine.collect(data, flags, PUID=puid)
    assert set(engine.files(data).values()) == {becomes.split()[0]}
    assert engine.sh(f"stat -c '%u:%g %a' {data}") == f"{becomes}\n"


def test_roots_files_of_ours_are_taken_over_and_no_others(engine: Engine) -> None:
    data = engine.data("1001:1001", "700")
    engine.sh(
        f"""cd {data}; umask 077
        mkdir .collector .collector/deep own; touch .collector/deep/left
        for name in pexHistoryConf.csv 2026-11-01_00-00-00_pexHistoryPart.csv data_collector.log.1 \\
            notes.txt own/pexHistoryConf.csv; do echo >$name; done
        ln -s /etc/passwd data_collector.log.2"""
    )
    engine.collect(data, HARDENED)
    files = engine.files(data)
    kept = {name for name, owner in files.items() if owner == "0:0"}
    assert kept == {"notes.txt", "own", "own/pexHistoryConf.csv", "data_collector.log.2"}
    assert {owner for name, owner in files.items() if name not in kept} == {"1001:1001"}


def test_a_named_volume_begins_as_the_collecting_users(engine: Engine) -> None:
    words = ("run", "--rm", "-v", "/app/data", "--entrypoint", "stat", engine.image)
    assert docker(*words, "-c", "%u:%g", "/app/data") == "1000:1000\n"


@pytest.mark.parametrize("arguments", [(), ("collect",)])
@pytest.mark.parametrize(
    ("owner", "file", "says"),
    [
        ("0:0", "", "/app/data belongs to 0:0, mode 755: 1000:1000 cannot write there"),
        ("1000:1000", "pexHistoryConf.csv", "user 1000:1000 cannot write to /app/data/pexHistoryConf.csv"),
    ],
)
def test_what_cannot_be_handed_over_is_named(
    engine: Engine, arguments: tuple[str, ...], owner: str, file: str, says: str
) -> None:
    data = engine.data(owner)
    engine.sh(f"umask 022; touch {data}/{file}")
    code, logs = engine.run(*arguments, env=engine.settings(), data=data, flags=REFUSING)
    assert code == 2
    assert says in logs


def test_a_read_only_folder_is_explained(engine: Engine) -> None:
    code, logs = engine.run("collect", env=engine.settings(), flags=HARDENED, mount=False)
    assert code == 2
    assert "cannot write there. Mount a folder that is not read-only" in logs


def test_root_of_docker_exec_writes_through_no_link_in_a_folder_of_roots(engine: Engine) -> None:
    """The folder is root's, anybody may write it, and the server refused the chown."""
    data = engine.data("0:0", "777")
    container = engine.idle(data=data, flags=REFUSING)
    engine.sh(
        f"""cd {data}; ln -sf /etc/log data_collector.log; ln -s /etc/conf.csv pexHistoryConf.csv; mkdir real
        chown 1000:1000 real; rm -rf .collector; ln -s real .collector"""
    )
    assert "/app/data/.collector is a symbolic link" in container.exec("collector.py", "collect", check=False)
    engine.sh(f"cd {data}; rm .collector; mv real .collector; ln -s /etc/lock .collector/lock")
    assert "/app/data/.collector/lock is a symbolic link" in container.exec("collector.py", "collect", check=False)
    engine.sh(f"rm {data}/.collector/lock")
    container.exec("collector.py", "collect", check=False)
    assert not [line for line in docker("diff", container.id).splitlines() if " /etc/" in line]
    engine.sh(f"cd {data}; rm -f data_collector.log pexHistoryConf.csv")
    container.exec("collector.py", "collect")
    assert engine.rows(data, "pexHistoryConf.csv") > 10
    assert set(engine.files(data).values()) == {"1000:1000"}
    # What root, with all that Docker leaves it, could read in spite of its mode, the health check cannot.
    assert container.exec("collector.py", "health").startswith("healthy")
    engine.sh(f"chmod 000 {data}/.collector/ledger.sqlite")
    assert container.exec("cat", "/app/data/.collector/ledger.sqlite", check=False)
    assert "healthy: " not in container.exec("collector.py", "health", check=False)
    container.stop()


@pytest.mark.parametrize("name", [".collector/lock", "data_collector.log"])
def test_a_fifo_in_a_files_place_hangs_no_start_no_run_and_no_stop(engine: Engine, name: str) -> None:
    data = engine.data("1000:1000")
    engine.sh(f"cd {data}; mkdir .collector; mkfifo {name}; chown -R 1000:1000 .")
    container = engine.idle(data=data, flags=HARDENED)
    said = container.exec("timeout", "10", "collector.py", "collect", check=False)
    assert f"/app/data/{name} is a named pipe (FIFO)" in said
    assert container.stop(10) == 0


def test_a_folder_of_the_system_is_no_data_folder_and_stays_roots(engine: Engine) -> None:
    container = engine.idle()
    for place, says in (("/app", "DATA_DIR: "), ("/var/lib/dpkg", "/var/lib/dpkg belongs to 0:0, mode 755")):
        script = f'env DATA_DIR={place} /app/entrypoint.sh collect; echo "ended with $?"'
        said = container.exec("sh", "-c", script)
        assert says in said
        assert said.endswith("ended with 2\n")
        assert container.exec("stat", "-c", "%u", place) == "0\n"
    container.stop()
