"""Cron has root; a run has nothing."""

from __future__ import annotations

import secrets

import pytest

from tests.management_node import faults

from .conftest import HARDENED, Container, Engine, until
from .test_secrets import _is

NEVER = "0 0 29 2 *"


def running(engine: Engine, flags: tuple[str, ...], **settings: str) -> Container:
    """A container in the middle of a run, which the node does not answer."""
    user = f"busy-{secrets.token_hex(4)}"
    engine.node.faults.add(faults.hang(30), when=lambda request: _is(request, user), times=None)
    env = engine.settings(DEFAULT_MGR_USERNAME=user, DATA_CRON_TIME=NEVER, DATA_RUN_ON_START="true", **settings)
    container = engine.start(env=env, flags=flags)
    asked = "a request of the run's, besides that of the start's own check"
    until(lambda: len(engine.asked_by(user)) > 1 or not container.state["Running"], 60, asked)
    assert container.state["Running"], container.logs
    return container


@pytest.mark.parametrize("flags", [(), HARDENED], ids=["plain", "hardened"])
def test_a_run_has_no_root_no_group_no_capability_and_gains_none(engine: Engine, flags: tuple[str, ...]) -> None:
    container = running(engine, flags, PUID="1234", PGID="1235")
    run = container.exec("cat", "/app/data/.collector/lock", user="1234").strip()
    lines = container.exec("cat", f"/proc/{run}/status", user="1234").splitlines()
    status = {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}
    assert status["Uid"] == "1234 1234 1234 1234"
    assert status["Gid"] == "1235 1235 1235 1235"
    assert status["Groups"] == ""
    assert status["NoNewPrivs"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb", *(() if flags else ("CapBnd",))):
        assert int(status[kind], 16) == 0, kind
    container.stop()


@pytest.mark.parametrize("flags", [(), HARDENED], ids=["plain", "hardened"])
def test_what_docker_exec_collects_belongs_to_the_same_user(engine: Engine, flags: tuple[str, ...]) -> None:
    data = engine.data("1007:1008")
    container = engine.start(env=engine.settings(DATA_CRON_TIME=NEVER), flags=flags, data=data)
    until(lambda: "as 1007:1008" in container.logs, 60, "the start")
    container.exec("collector.py", "collect")
    assert "done" in container.exec("collector.py", "status")
    files = engine.files(data)
    assert "pexHistoryConf.csv" in files
    assert set(files.values()) == {"1007:1008"}
    assert engine.sh(f"stat -c %a {data}/pexHistoryConf.csv") == "640\n"
    container.stop()


@pytest.mark.parametrize("command", ["collect", "check", "status", "health"])
def test_commands_work_as_any_user_without_a_capability(engine: Engine, command: str) -> None:
    data = engine.data("4567:4567", "700")
    file = engine.folder / secrets.token_hex(4)
    file.write_text(engine.node.secret)
    engine.sh(f"chown 4567 {file} && chmod 400 {file}")
    settings = engine.settings(DEFAULT_MGR_SECRET=None, DEFAULT_MGR_SECRET_FILE="/secrets/mgr_secret")
    flags = ("--user", "4567:4567", "--read-only", "--cap-drop", "ALL", "-v", f"{file}:/secrets/mgr_secret:ro")
    code, logs = engine.run(command, env=settings, data=data, flags=flags)
    assert code == 0, logs


def test_a_schedule_as_another_user_explains_what_to_do_instead(engine: Engine) -> None:
    code, logs = engine.run(env=engine.settings(DEFAULT_MGR_SECRET=None), flags=("--user", "1000:1000"))
    assert code == 2
    assert "start the container without --user" in logs
    assert '"collect"' in logs


def test_a_schedule_without_its_capabilities_names_them(engine: Engine) -> None:
    code, logs = engine.run(env=engine.settings(), flags=("--cap-drop", "ALL"))
    assert code == 2
    assert "CHOWN, SETGID and SETUID" in logs


def test_a_read_only_root_without_tmpfs_names_what_is_missing(engine: Engine) -> None:
    code, logs = engine.run(env=engine.settings(), flags=("--read-only",))
    assert code == 2
    assert "--tmpfs /run --tmpfs /tmp --tmpfs /var/spool/cron/crontabs:mode=1730" in logs


def test_puid_0_stays_root_for_a_rootless_engine(engine: Engine) -> None:
    data = engine.data("0:0")
    code, logs = engine.run("collect", env=engine.settings(PUID="0"), data=data, flags=HARDENED)
    assert code == 0, logs
    assert set(engine.files(data).values()) == {"0:0"}


def test_quotes_that_an_env_file_leaves_around_a_number_do_no_harm(engine: Engine) -> None:
    data = engine.data()
    code, logs = engine.run("collect", env=engine.settings(PUID='"1300"', PGID="'1301'"), data=data)
    assert code == 0, logs
    assert set(engine.files(data).values()) == {"1300:1301"}
