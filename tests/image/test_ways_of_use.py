"""The three ways that the README names: -e, --env-file, and arguments. Compose has its own file."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from .conftest import EVERY_MINUTE, HARDENED, Container, Engine, docker, until
from .test_privileges import NEVER


def start(engine: Engine) -> dict[str, Container]:
    file = engine.folder / "settings.env"
    settings = engine.settings(DATA_CRON_TIME='"* * * * *"', DATA_RUN_ON_START="false")
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    in_oslo = engine.settings(TZ="Europe/Oslo")
    return {
        "by_e": engine.start(env=in_oslo),
        "refused": engine.start(env=engine.settings(DEFAULT_MGR_SECRET="another")),
        "by_env_file": engine.start(flags=("--env-file", str(file))),
    }


@pytest.mark.parametrize("way", ["by_e", "by_env_file"])
def test_cron_collects_into_the_mounted_folder(engine: Engine, fleet: SimpleNamespace, way: str) -> None:
    container = getattr(fleet, way)
    until(container.ran, 60, container.logs)
    files = engine.files(container.data)
    for kind in ("Conf", "Part"):
        assert any(name.endswith(f"_pexHistory{kind}.csv") for name in files)
        assert engine.rows(container.data, f"pexHistory{kind}.csv") > 10


def test_the_start_says_the_schedule_in_words_the_next_run_and_who_it_runs_as(fleet: SimpleNamespace) -> None:
    first = fleet.by_e.logs.splitlines()[0]
    assert first.startswith("Every minute (Europe/Oslo), next ")
    assert first.endswith("as 1000:1000")


def test_a_runs_lines_reach_docker_logs_once_and_crons_own_do_not(fleet: SimpleNamespace) -> None:
    until(fleet.by_e.ran, 60, "a run")
    logs = fleet.by_e.logs
    assert logs.count(" INFO collecting ") == logs.count(" waiting, ") >= 1
    assert "scheduled" not in logs
    assert "cron" not in logs.lower()


@pytest.mark.parametrize("flags", [(), HARDENED], ids=["plain", "hardened"])
def test_a_run_by_hand_is_in_docker_logs_too(engine: Engine, flags: tuple[str, ...]) -> None:
    container = engine.start(env=engine.settings(DATA_CRON_TIME=NEVER), flags=flags)
    until(container.scheduling, 60, "the start")
    said = [line for line in container.exec("collector.py", "collect").splitlines() if " INFO " in line]
    assert said
    assert set(said) <= set(container.logs.splitlines())
    container.stop()


def test_a_run_that_fails_says_so_itself_and_cron_does_not_say_it_again(fleet: SimpleNamespace) -> None:
    until(fleet.refused.ran, 60, "a run")
    logs = fleet.refused.logs
    assert "FAIL credentials: " in logs
    assert "The container goes on, and its runs will try." in logs
    assert " ERROR " in logs
    assert "grandchild" not in logs


def test_arguments_are_the_collectors(engine: Engine) -> None:
    data = engine.data()
    code, logs = engine.run("collect", env=engine.settings(DATA_CRON_TIME=None), data=data)
    assert code == 0, logs
    assert engine.rows(data, "pexHistoryConf.csv") > 10
    code, logs = engine.run("status", env=engine.settings(), data=data)
    assert (code, logs.count(" done ")) == (0, 1), logs
    code, logs = engine.run("check", env=engine.settings(), data=data)
    assert code == 0, logs
    code, logs = engine.run("collect", "--to", "yesterday", env=engine.settings(), data=data)
    assert code == 2, logs


def test_without_its_settings_the_container_stops_at_once_and_names_each(engine: Engine) -> None:
    code, logs = engine.run()
    assert code == 2
    for name in ("DEFAULT_MGR_ADDRESS", "DEFAULT_MGR_SECRET", "DATA_CRON_TIME"):
        assert f"{name}: is missing" in logs


def test_a_folder_that_is_no_mount_is_warned_of(engine: Engine) -> None:
    container = engine.start(env=engine.settings(), mount=False)
    until(container.scheduling, 60, "cron")
    assert "WARNING /app/data is not a mount" in container.logs
    container.stop()


def test_a_data_folder_of_another_name_is_made(engine: Engine) -> None:
    container = engine.start("collect", env=engine.settings(DATA_DIR="/srv/calls"), mount=False)
    assert container.wait() == 0, container.logs


def test_run_on_start_collects_at_once_and_not_again_after_a_restart(engine: Engine) -> None:
    container = engine.start(env=engine.settings(DATA_RUN_ON_START="true", DATA_CRON_TIME="0 0 29 2 *"))
    until(container.ran, 60, "a run at the start")
    container.stop()
    docker("start", container.id)
    until(lambda: "nothing to collect at the start" in container.logs, 60, container.logs)
    container.stop()


def test_the_crontab_is_the_schedule_and_nothing_else(fleet: SimpleNamespace) -> None:
    table = fleet.by_e.exec("cat", "/var/spool/cron/crontabs/root")
    assert table == f"{EVERY_MINUTE} /app/entrypoint.sh scheduled >&3 2>&1\n"
    assert fleet.by_e.exec("stat", "-c", "%a %u", "/var/spool/cron/crontabs/root") == "600 0\n"
