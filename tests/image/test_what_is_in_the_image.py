"""The image itself."""

from __future__ import annotations

import json

from .conftest import Engine, docker


def test_its_label_is_the_programs_version(engine: Engine) -> None:
    labels = json.loads(docker("inspect", "--format", "{{json .Config.Labels}}", engine.image))
    _, version = engine.run("--version")
    assert labels["org.opencontainers.image.version"] == version.strip()


def test_no_build_tool_or_package_cache_is_left(engine: Engine) -> None:
    tools = "for tool in gcc cc make git curl wget; do command -v $tool || true; done"
    assert engine.sh(tools) == ""
    assert engine.sh("find /var/lib/apt/lists /var/cache/apt /root/.cache /tmp -xdev -type f 2>/dev/null || true") == ""


def test_what_it_adds_to_its_base_is_small(engine: Engine) -> None:
    def size(image: str) -> int:
        return int(docker("inspect", "--format", "{{.Size}}", image))

    assert size(engine.image) - size("python:3.13-slim-trixie") < 60_000_000


def test_only_our_job_is_on_crons_list(engine: Engine) -> None:
    assert engine.sh("cat /etc/crontab; find /etc/cron.d /var/spool/cron -type f ! -name .placeholder") == ""


def test_the_programs_code_is_not_the_collecting_users_to_change(engine: Engine) -> None:
    assert engine.sh("find /app /usr/local -writable ! -user root ! -path /app/data") == ""
