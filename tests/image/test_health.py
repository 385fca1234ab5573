"""HEALTHCHECK, as the engine sees it."""

from __future__ import annotations

import json

from .conftest import HARDENED, Engine, docker, until


def test_health_follows_a_failing_run_and_its_recovery(engine: Engine) -> None:
    container = engine.idle(flags=(*HARDENED, "--health-interval", "1s", "--health-retries", "1"))

    def health(status: str) -> str:
        until(lambda: container.state["Health"]["Status"] == status, 60, status)
        return str(container.state["Health"]["Log"][-1]["Output"])

    assert health("healthy") == "healthy: no run was due yet\n"
    refused = ("-e", "DEFAULT_MGR_SECRET=another")
    docker("exec", *refused, container.id, "collector.py", "collect", check=False)
    assert "unhealthy: the run of" in health("unhealthy")
    container.exec("collector.py", "collect")
    assert health("healthy").startswith("healthy: ")
    container.stop()


def test_the_image_checks_health_by_itself_and_quickly(engine: Engine) -> None:
    check = json.loads(docker("inspect", "--format", "{{json .Config.Healthcheck}}", engine.image))
    assert check["Test"] == ["CMD", "collector.py", "health"]
    assert check["Timeout"] >= 10 * 10**9
