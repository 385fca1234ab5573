"""`docker stop`, and cron that ends by itself."""

from __future__ import annotations

import secrets
from types import SimpleNamespace

import pytest

from .conftest import HARDENED, Container, Engine, both_ways, docker, until

USERS = {way: f"cron-{way}-{secrets.token_hex(4)}" for way in ("plain", "hardened", "shared_pids")}
DOCKERS = 10
"""Seconds that Docker waits before it kills."""
FLAGS = {"plain": (), "hardened": HARDENED, "shared_pids": (*HARDENED, "--pid", "host")}


def start(engine: Engine) -> dict[str, Container]:
    """Runs of cron's that the node keeps waiting."""
    settings = {
        way: engine.settings(DEFAULT_MGR_USERNAME=engine.keep_waiting(user), DATA_CRON_TIME=engine.once())
        for way, user in USERS.items()
    }
    return {f"stop_{way}": engine.start(env=env, flags=FLAGS[way]) for way, env in settings.items()}


@pytest.mark.parametrize("way", USERS)
def test_a_stop_in_the_middle_of_crons_run_rolls_it_back_in_time_and_says_so(
    engine: Engine, fleet: SimpleNamespace, way: str
) -> None:
    container = getattr(fleet, f"stop_{way}")
    until(lambda: len(engine.asked_by(USERS[way])) > 1, 60, "a request of cron's run")
    assert container.stop(DOCKERS) == 0
    assert "stopped on request" in container.logs
    assert "stopped on request" in engine.sh(f"cat {container.data}/data_collector.log")
    assert not [name for name in engine.files(container.data) if name.endswith(".csv")]


@both_ways
def test_a_stop_in_the_middle_of_the_run_at_the_start_does_the_same_and_the_next_run_brings_its_window(
    engine: Engine, flags: tuple[str, ...]
) -> None:
    container = engine.busy(flags)
    assert container.stop(DOCKERS) == 0
    assert "stopped on request" in container.logs
    assert container.data
    engine.collect(container.data, flags)
    assert engine.rows(container.data, "pexHistoryConf.csv") > 10


@both_ways
def test_a_stop_of_an_idle_container_and_of_one_that_was_started_again_kills_nothing(
    engine: Engine, flags: tuple[str, ...]
) -> None:
    container = engine.idle(flags=flags)
    assert container.stop(DOCKERS) == 0
    docker("start", container.id)
    until(lambda: container.scheduling(2), 60, "cron")
    assert container.stop(DOCKERS) == 0


@both_ways
def test_a_stop_of_a_single_collection_ends_it_in_time(engine: Engine, flags: tuple[str, ...]) -> None:
    user = engine.keep_waiting()
    container = engine.start("collect", env=engine.settings(DEFAULT_MGR_USERNAME=user), flags=flags)
    until(lambda: engine.asked_by(user), 60, "a request")
    assert container.stop(DOCKERS) == 1
    assert "stopped on request" in container.logs


def test_when_cron_dies_the_container_stops_with_an_error(engine: Engine) -> None:
    container = engine.idle()
    container.exec("sh", "-c", "kill -9 $(cat /run/crond.pid)", check=False)  # it may end with the container
    assert container.wait() == 1
    assert "cron ended unexpectedly" in container.logs


def test_init_reaps_what_lost_its_parent(engine: Engine) -> None:
    container = engine.idle()
    container.exec("bash", "-c", "(sleep 0.2 &)")
    until(lambda: "(sleep)" not in container.exec("sh", "-c", "cat /proc/[0-9]*/stat || :"), 20, "its end, reaped")
    container.stop()
