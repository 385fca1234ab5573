"""A data folder whose owner means ill, and settings that would lead root elsewhere."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from .conftest import HARDENED, Container, Engine, docker, until
from .test_privileges import NEVER

# As on a share whose server refuses chown, here without a read-only root: what root wrote would show.
REFUSING = ("--cap-drop", "CHOWN")


@pytest.fixture(scope="module")
def idle(engine: Engine) -> Iterator[Container]:
    """A container that waits for its schedule; commands are tried in it with other settings."""
    container = engine.start(env=engine.settings(DATA_CRON_TIME=NEVER), data=engine.data("1007:1008"))
    until(container.scheduling, 60, "cron")
    yield container
    container.stop()


def tried(container: Container, *arguments: str, **settings: str) -> str:
    """What the entrypoint does with these settings, to its end or for ten seconds."""
    pairs = [f"{name}={value}" for name, value in settings.items()]
    script = 'timeout 10 env "$@"; echo "ended with $?"'
    return container.exec("sh", "-c", script, "-", *pairs, "/app/entrypoint.sh", *(arguments or ("collect",)))


def test_the_largest_number_is_a_user_like_others(engine: Engine) -> None:
    data = engine.data()
    code, logs = engine.run("collect", env=engine.settings(PUID="4294967294"), data=data, flags=HARDENED)
    assert code == 0, logs
    assert set(engine.files(data).values()) == {"4294967294:4294967294"}


PLACES = ("/", "//", "/etc", "//etc", "/app", "/run", "..", "tmp/x", "/app/data/../../etc", "/var/spool/cron/crontabs")


@pytest.mark.parametrize("place", [*PLACES, "/app/pexip_history", "/usr/local/bin"])
def test_a_folder_of_the_system_is_no_data_folder_and_stays_roots(idle: Container, place: str) -> None:
    said = tried(idle, DATA_DIR=place)
    assert said.startswith("DATA_DIR: ")
    assert said.endswith("ended with 2\n")
    assert idle.exec("sh", "-c", f"cd /app; stat -c %u '{place}' 2>/dev/null || true").strip() in ("0", "")


def test_another_folder_that_the_image_brought_is_not_given_away(idle: Container) -> None:
    said = tried(idle, DATA_DIR="/var/lib/dpkg")
    assert "/var/lib/dpkg belongs to 0:0, mode 755: 1000:1000 cannot write there" in said
    assert idle.exec("stat", "-c", "%u", "/var/lib/dpkg") == "0\n"


def test_a_link_below_the_mount_is_no_data_folder(engine: Engine) -> None:
    data = engine.data("1000:1000")
    engine.sh(f"ln -s /etc {data}/folder; ln -s / {data}/way")
    for name, real in (("folder", "/etc"), ("way/etc", "/etc")):
        settings = engine.settings(DATA_DIR=f"/app/data/{name}")
        container = engine.start("collect", env=settings, data=data)
        assert container.wait() == 2
        assert f"/app/data/{name} is behind a symbolic link; give the real path, {real}" in container.logs
        assert "/etc" not in docker("diff", container.id).splitlines()


def test_a_hard_link_named_like_a_file_of_ours_is_not_handed_over(engine: Engine) -> None:
    data = engine.data("1000:1000")
    other = engine.folder / secrets.token_hex(4)
    engine.sh(f"umask 077; echo root >{other}; ln {other} {data}/pexHistoryConf.csv")
    code, logs = engine.run("collect", env=engine.settings(), data=data)
    assert code == 2
    assert "user 1000:1000 cannot write to /app/data/pexHistoryConf.csv, and it has a hard link" in logs
    assert engine.sh(f"stat -c %u {other}") == "0\n"


def test_root_of_docker_exec_writes_through_no_link_in_a_folder_of_roots(engine: Engine) -> None:
    """The folder is root's, anybody may write it, and the server refused the chown."""
    data = engine.data("0:0", "777")
    container = engine.start(env=engine.settings(DATA_CRON_TIME=NEVER), data=data, flags=REFUSING)
    until(lambda: "as 1000:1000" in container.logs, 60, "the start")
    until(container.scheduling, 60, "the check at the start, which makes .collector")
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
    container.stop()


def test_the_health_check_is_no_root_either(engine: Engine) -> None:
    """What root, with all that Docker leaves it, could read in spite of its mode, the health check cannot."""
    data = engine.data("0:0", "777")
    container = engine.start(env=engine.settings(DATA_CRON_TIME=NEVER), data=data, flags=REFUSING)
    until(lambda: "as 1000:1000" in container.logs, 60, "the start")
    container.exec("collector.py", "collect")
    assert container.exec("collector.py", "health").startswith("healthy")
    engine.sh(f"chmod 000 {data}/.collector/ledger.sqlite")
    assert container.exec("cat", "/app/data/.collector/ledger.sqlite", check=False)
    assert "healthy: " not in container.exec("collector.py", "health", check=False)
    container.stop()


@pytest.mark.parametrize("name", [".collector/lock", "data_collector.log", ".collector/ledger.sqlite"])
def test_a_fifo_in_a_files_place_hangs_no_start_no_run_and_no_stop(engine: Engine, name: str) -> None:
    data = engine.data("1000:1000")
    engine.sh(f"cd {data}; mkdir .collector; mkfifo {name}; chown -R 1000:1000 .")
    container = engine.start(env=engine.settings(DATA_CRON_TIME=NEVER), data=data, flags=HARDENED)
    until(container.scheduling, 60, "cron")
    said = container.exec("timeout", "10", "collector.py", "collect", check=False)
    assert f"/app/data/{name} is a named pipe (FIFO)" in said
    assert container.stop(10) == 0


def test_an_aggregate_that_the_folders_owner_keeps_on_another_volume_is_written_there(engine: Engine) -> None:
    data, volume = engine.data("1000:1000"), engine.data("1000:1000")
    engine.sh(f"ln -s /volume/calls.csv {data}/pexHistoryConf.csv; chown -h 1000:1000 {data}/pexHistoryConf.csv")
    code, logs = engine.run("collect", env=engine.settings(), data=data, flags=(*HARDENED, "-v", f"{volume}:/volume"))
    assert code == 0, logs
    assert engine.rows(volume, "calls.csv") > 10


def test_an_aggregate_that_somebody_else_made_a_link_is_not_followed(engine: Engine) -> None:
    data = engine.data("1000:1000", "777")
    volume = engine.data("1000:1000")
    engine.sh(f"ln -s /volume/.profile {data}/pexHistoryConf.csv; chown -h 1001:1001 {data}/pexHistoryConf.csv")
    code, logs = engine.run("collect", env=engine.settings(), data=data, flags=(*HARDENED, "-v", f"{volume}:/volume"))
    assert code == 1
    assert "/app/data/pexHistoryConf.csv is a symbolic link of user 1001" in logs
    assert engine.files(volume) == {}


@pytest.mark.parametrize("owner", ["0:0", "1000:1000"])
def test_root_by_puid_0_collects_into_no_folder_that_others_may_write(engine: Engine, owner: str) -> None:
    data = engine.data(owner, "775")
    code, logs = engine.run("collect", env=engine.settings(PUID="0"), data=data, flags=HARDENED)
    assert code != 0
    assert ("run chmod go-w /app/data" if owner == "0:0" else "set PUID=1000") in logs
    assert engine.files(data) == {}


def test_a_data_folder_that_its_owner_cannot_reach_is_refused_and_not_made(engine: Engine) -> None:
    container = engine.start("collect", env=engine.settings(DATA_DIR="/root/calls"), mount=False)
    assert container.wait() == 2
    assert (
        "DATA_DIR: /root/calls cannot be reached by user 1000:1000, since /root is closed to others" in container.logs
    )
    assert "/root/calls" not in docker("diff", container.id)
