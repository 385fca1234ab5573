"""`docker stop`, and cron that ends by itself."""

from __future__ import annotations

import secrets
from types import SimpleNamespace

import pytest

from tests.management_node import faults

from .conftest import HARDENED, Container, Engine, docker, until
from .test_privileges import NEVER, running
from .test_secrets import _is

USERS = {way: f"cron-{way}-{secrets.token_hex(4)}" for way in ("plain", "hardened", "shared_pids")}
DOCKERS = 10
"""Seconds that Docker waits before it kills."""
FLAGS = {"plain": (), "hardened": HARDENED, "shared_pids": (*HARDENED, "--pid", "host")}


def start(engine: Engine) -> dict[str, Container]:
    """Runs of cron's that the node keeps waiting."""
    containers = {}
    for way, user in USERS.items():
        engine.node.faults.add(faults.hang(40), when=lambda r, user=user: _is(r, user), times=None)
        settings = engine.settings(DEFAULT_MGR_USERNAME=user, DATA_CRON_TIME=engine.once())
        containers[f"stop_{way}"] = engine.start(env=settings, flags=FLAGS[way])
    return containers


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


@pytest.mark.parametrize("flags", [(), HARDENED], ids=["plain", "hardened"])
def test_a_stop_in_the_middle_of_the_run_at_the_start_does_the_same(engine: Engine, flags: tuple[str, ...]) -> None:
    container = running(engine, flags)
    assert container.stop(DOCKERS) == 0
    assert "stopped on request" in container.logs


@pytest.mark.parametrize("flags", [(), HARDENED], ids=["plain", "hardened"])
def test_a_stop_of_an_idle_container_and_of_one_that_was_started_again_kills_nothing(
    engine: Engine, flags: tuple[str, ...]
) -> None:
    container = engine.start(env=engine.settings(DATA_CRON_TIME=NEVER), flags=flags)
    for starts in (1, 2):
        until(lambda starts=starts: container.scheduling(starts), 60, "cron")
        assert container.stop(DOCKERS) == 0
        docker("start", container.id)


@pytest.mark.parametrize("flags", [(), HARDENED], ids=["plain", "hardened"])
def test_a_stop_of_a_single_collection_ends_it_in_time(engine: Engine, flags: tuple[str, ...]) -> None:
    user = f"single-{secrets.token_hex(4)}"
    engine.node.faults.add(faults.hang(30), when=lambda request: _is(request, user), times=None)
    container = engine.start("collect", env=engine.settings(DEFAULT_MGR_USERNAME=user), flags=flags)
    until(lambda: engine.asked_by(user), 60, "a request")
    assert container.stop(DOCKERS) == 1
    assert "stopped on request" in container.logs


def test_after_a_stop_in_the_middle_of_a_run_the_next_one_brings_its_window(engine: Engine) -> None:
    container = running(engine, HARDENED)
    container.stop()
    docker("start", container.id)
    until(lambda: container.logs.count(", next ") == 2, 60, "the second start")
    container.stop()
    code, logs = engine.run("collect", env=engine.settings(), data=container.data, flags=HARDENED)
    assert code == 0, logs
    assert container.data
    assert engine.rows(container.data, "pexHistoryConf.csv") > 10


def test_when_cron_dies_the_container_stops_with_an_error(engine: Engine) -> None:
    container = engine.start(env=engine.settings(DATA_CRON_TIME=NEVER))
    until(container.scheduling, 60, "cron")
    container.exec("sh", "-c", "kill -9 $(cat /run/crond.pid)", check=False)  # it may end with the container
    assert container.wait() == 1
    assert "cron ended unexpectedly" in container.logs


def test_init_reaps_what_lost_its_parent(engine: Engine) -> None:
    container = engine.start(env=engine.settings(DATA_CRON_TIME=NEVER))
    until(container.scheduling, 60, "cron")
    container.exec("bash", "-c", "(sleep 0.2 &) ; sleep 0.5")
    assert " Z" not in container.exec("sh", "-c", "cat /proc/[0-9]*/stat")
    container.stop()
