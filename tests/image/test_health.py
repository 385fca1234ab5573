"""HEALTHCHECK, as the engine sees it."""

from __future__ import annotations

import json
import secrets

from tests.management_node import faults

from .conftest import HARDENED, Engine, docker, until
from .test_secrets import _is


def test_health_follows_a_failing_run_and_its_recovery(engine: Engine) -> None:
    user = f"ill-{secrets.token_hex(4)}"
    engine.node.username = user
    try:
        env = engine.settings(DEFAULT_MGR_USERNAME=user, DATA_CRON_TIME="0 0 29 2 *")
        flags = (*HARDENED, "--health-interval", "1s", "--health-retries", "1")
        container = engine.start(env=env, flags=flags)
        until(container.scheduling, 60, "the check at the start")

        def health(status: str) -> str:
            until(lambda: container.state["Health"]["Status"] == status, 60, status)
            return str(container.state["Health"]["Log"][-1]["Output"])

        assert health("healthy") == "healthy: no run was due yet\n"
        engine.node.faults.add(faults.status(403), when=lambda request: _is(request, user), times=None)
        container.exec("collector.py", "collect", check=False)
        assert "unhealthy: the run of" in health("unhealthy")
        engine.node.faults.clear()
        container.exec("collector.py", "collect")
        assert health("healthy").startswith("healthy: ")
        container.stop()
    finally:
        engine.node.username = "admin"


def test_the_image_checks_health_by_itself_and_quickly(engine: Engine) -> None:
    check = json.loads(docker("inspect", "--format", "{{json .Config.Healthcheck}}", engine.image))
    assert check["Test"] == ["CMD", "collector.py", "health"]
    assert check["Timeout"] >= 10 * 10**9
