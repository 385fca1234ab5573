"""The three ways that the README names: -e, --env-file, and arguments. Compose has its own file."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from .conftest import EVERY_MINUTE, Container, Engine, docker, until


def start(engine: Engine) -> dict[str, Container]:
    file = engine.folder / "settings.env"
    settings = engine.settings(DATA_CRON_TIME='"* * * * *"', DATA_RUN_ON_START="false")
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return {
        "by_e": engine.start(env=engine.settings(TZ="Europe/Oslo")),
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


def test_the_log_says_the_schedule_in_words_and_a_runs_lines_once_and_nothing_of_crons(fleet: SimpleNamespace) -> None:
    until(fleet.by_e.ran, 60, "a run")
    logs = fleet.by_e.logs
    first = logs.splitlines()[0]
    assert first.startswith("Every minute (Europe/Oslo), next ")
    assert first.endswith("as 1000:1000")
    assert logs.count(" INFO collecting ") == logs.count(" waiting, ") >= 1
    assert "scheduled" not in logs
    assert "cron" not in logs.lower()


def test_a_run_that_fails_says_so_itself_and_cron_does_not_say_it_again(fleet: SimpleNamespace) -> None:
    until(fleet.refused.ran, 60, "a run")
    logs = fleet.refused.logs
    for words in ("FAIL credentials: ", "The container goes on, and its runs will try.", " ERROR "):
        assert words in logs
    assert "grandchild" not in logs


def test_arguments_are_the_collectors(engine: Engine) -> None:
    data = engine.data()
    engine.collect(data, DATA_CRON_TIME=None)
    assert engine.rows(data, "pexHistoryConf.csv") > 10
    for arguments, expected, words in (
        (("status",), 0, " done "),
        (("check",), 0, "ok   credentials"),
        (("collect", "--to", "yesterday"), 2, "yesterday"),
    ):
        code, logs = engine.run(*arguments, env=engine.settings(), data=data)
        assert (code, logs.count(words)) == (expected, 1), logs


def test_without_its_settings_the_container_stops_at_once_and_names_each(engine: Engine) -> None:
    code, logs = engine.run()
    assert code == 2
    for name in ("DEFAULT_MGR_ADDRESS", "DEFAULT_MGR_SECRET", "DATA_CRON_TIME"):
        assert f"{name}: is missing" in logs


def test_a_folder_that_is_no_mount_is_warned_of(engine: Engine) -> None:
    container = engine.idle(mount=False)
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
