"""The image itself."""

from __future__ import annotations

import json
import re

from .conftest import ROOT, Engine, docker


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

    [base] = re.findall("^FROM (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    # DuckDB 66 MB, Apprise 16 MB, cryptography 13 MB, cron and tini 9 MB
    assert size(engine.image) - size(base) < 150_000_000


def test_only_our_job_is_on_crons_list(engine: Engine) -> None:
    assert engine.sh("cat /etc/crontab; find /etc/cron.d /var/spool/cron -type f ! -name .placeholder") == ""


def test_nothing_that_runs_here_is_the_collecting_users_to_change(engine: Engine) -> None:
    words = ("run", "--rm", "--user", "1000:1000", "--entrypoint", "find", engine.image)
    writable = docker(*words, "/app", "/usr", "/etc", "/var", "-xdev", "-writable", "!", "-type", "l", check=False)
    found = {line for line in writable.splitlines() if not line.startswith("find: ")}
    assert found <= {"/app/data", "/var/tmp", "/var/lock"}


def test_its_code_can_be_read_by_any_user_whatever_the_builders_umask(engine: Engine) -> None:
    words = ("run", "--rm", "--user", "4321:4321", "--entrypoint", "find", engine.image, "/app")
    assert docker(*words, "!", "-readable", "-o", "-type", "d", "!", "-executable") == ""


def test_no_program_gives_another_users_rights_to_the_one_who_starts_it(engine: Engine) -> None:
    assert engine.sh("find / -xdev -type f -perm /6000") == ""


def test_nothing_that_installs_packages_of_python_is_left(engine: Engine) -> None:
    look = "from importlib.util import find_spec; print([n for n in ('pip', 'ensurepip') if find_spec(n)])"
    assert engine.sh(f'python3 -c "{look}"; command -v pip pip3 || true') == "[]\n"
