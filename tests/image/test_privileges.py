"""Cron has root; a run has nothing."""

from __future__ import annotations

import pytest

from .conftest import HARDENED, Engine, both_ways


@both_ways
def test_a_run_has_no_root_no_group_no_capability_and_gains_none(engine: Engine, flags: tuple[str, ...]) -> None:
    container = engine.busy(flags, PUID="1234", PGID="1235")
    run = container.exec("cat", "/app/data/.collector/lock", user="1234").strip()
    lines = container.exec("cat", f"/proc/{run}/status", user="1234").splitlines()
    status = {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}
    wanted = {"Uid": "1234 1234 1234 1234", "Gid": "1235 1235 1235 1235", "Groups": "", "NoNewPrivs": "1"}
    assert {name: status[name] for name in wanted} == wanted
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb", *(() if flags else ("CapBnd",))):
        assert int(status[kind], 16) == 0, kind
    container.stop()


@both_ways
def test_what_docker_exec_collects_belongs_to_the_same_user(engine: Engine, flags: tuple[str, ...]) -> None:
    data = engine.data("1007:1008")
    container = engine.idle(flags=flags, data=data)
    assert "as 1007:1008" in container.logs
    said = [line for line in container.exec("collector.py", "collect").splitlines() if " INFO " in line]
    assert said
    assert set(said) <= set(container.logs.splitlines()), "a run by hand is in docker logs too"
    assert "done" in container.exec("collector.py", "status")
    files = engine.files(data)
    assert "pexHistoryConf.csv" in files
    assert set(files.values()) == {"1007:1008"}
    assert engine.sh(f"stat -c %a {data}/pexHistoryConf.csv") == "640\n"
    container.stop()


@pytest.mark.parametrize("command", ["collect", "check", "status", "health"])
def test_commands_work_as_any_user_without_a_capability(engine: Engine, command: str) -> None:
    data, file = engine.data("4567:4567", "700"), engine.file(engine.node.secret, "4567:4567", "400")
    settings = engine.settings(DEFAULT_MGR_SECRET=None, DEFAULT_MGR_SECRET_FILE="/secrets/mgr_secret")
    flags = ("--user", "4567:4567", "--read-only", "--cap-drop", "ALL", "-v", f"{file}:/secrets/mgr_secret:ro")
    code, logs = engine.run(command, env=settings, data=data, flags=flags)
    assert code == 0, logs


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            ("--user", "1000:1000"),
            "start the container without --user (the collection itself runs as PUID:PGID), or with",
        ),
        (("--cap-drop", "ALL"), "CHOWN, SETGID and SETUID"),
        (("--read-only",), "--tmpfs /run --tmpfs /tmp --tmpfs /var/spool/cron/crontabs:mode=1730"),
    ],
)
def test_a_schedule_that_cannot_be_kept_explains_what_to_do_instead(
    engine: Engine, flags: tuple[str, ...], says: str
) -> None:
    secret = None if "--user" in flags else engine.node.secret
    code, logs = engine.run(env=engine.settings(DEFAULT_MGR_SECRET=secret), flags=flags)
    assert code == 2
    assert says in logs


@pytest.mark.parametrize(
    ("given", "owner"),
    [({"PUID": "0"}, "0:0"), ({"PUID": '"1300"', "PGID": "'1301'"}, "1300:1301")],
    ids=["root, for a rootless engine", "in quotes that an env file leaves"],
)
def test_the_files_are_puids(engine: Engine, given: dict[str, str], owner: str) -> None:
    data = engine.data("0:0")
    engine.collect(data, HARDENED, **given)
    assert set(engine.files(data).values()) == {owner}
