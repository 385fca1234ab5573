"""compose.yaml and compose.demo.yaml, as a user has them: the files as they are, beside a .env."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path
from types import SimpleNamespace

from .conftest import ROOT, Container, Engine, docker, until

PASSWORD = f" $HOME '\"#{secrets.token_hex(6)}\\ "


class Project:
    """A folder with the repository's files in it, and `docker compose` there."""

    def __init__(self, engine: Engine, file: str = "compose.yaml") -> None:
        name = f"test-{secrets.token_hex(4)}"
        self.folder = engine.folder / name
        self.file = self.folder / file
        ignored = shutil.ignore_patterns(".[!ed]*", "__pycache__", "data", "demo-data", "docs")
        shutil.copytree(ROOT, self.folder, ignore=ignored)
        self.image = engine.image  # the user's own image of the usual name stays what it is
        self.words = ("compose", "--file", str(self.file), "--project-name", name)
        engine.cleanups.append(lambda: self("down", "--volumes", "--rmi", "local", check=False))

    def __call__(self, *words: str, check: bool = True) -> str:
        return docker(*self.words, *words, check=check, env={"COLLECTOR_IMAGE": self.image})

    def container(self, service: str, data: Path) -> Container:
        return Container(self("ps", "--all", "--quiet", service).strip(), data)

    def env(self, values: dict[str, str]) -> None:
        """Fills in .env.example, as a user does."""
        lines = (self.folder / ".env.example").read_text().splitlines()
        for name, value in values.items():
            [place] = [n for n, line in enumerate(lines) if line.lstrip("#").startswith(f"{name}=")]
            lines[place] = f"{name}={value}"
        (self.folder / ".env").write_text("\n".join(lines) + "\n")


def start(engine: Engine) -> dict[str, Container]:
    plain, with_secret, demo = Project(engine), Project(engine), Project(engine, "compose.demo.yaml")
    plain.env(engine.settings() | {"DEFAULT_MGR_SECRET_FILE": ""})
    with_secret.env(engine.settings(DEFAULT_MGR_USERNAME="composed", DEFAULT_MGR_SECRET=None))
    secret = with_secret.folder / "secrets" / "mgr_secret"
    secret.parent.mkdir()
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o600)
    for project in (demo, plain, with_secret):
        project("up", "--detach")
    return {
        "compose": plain.container("collector", plain.folder / "data"),
        "compose_secret": with_secret.container("collector", with_secret.folder / "data"),
        "compose_demo": demo.container("collector", demo.folder / "demo-data"),
    }


def test_up_with_the_values_in_env_collects(engine: Engine, fleet: SimpleNamespace) -> None:
    until(fleet.compose.ran, 60, fleet.compose.logs)
    assert engine.rows(fleet.compose.data, "pexHistoryConf.csv") > 10
    assert engine.rows(fleet.compose.data, "pexHistoryPart.csv") > 10
    assert set(engine.files(fleet.compose.data).values()) == {"1000:1000"}


def test_it_is_hardened(fleet: SimpleNamespace) -> None:
    status = fleet.compose.exec("cat", "/proc/1/status")
    assert "NoNewPrivs:\t1" in status
    assert "CapBnd:\t00000000000000c1" in status  # CHOWN, SETGID, SETUID
    assert "Read-only file system" in fleet.compose.exec("touch", "/app/x", check=False)


def test_it_has_limits(fleet: SimpleNamespace) -> None:
    [config] = json.loads(docker("inspect", "--format", "[{{json .HostConfig}}]", fleet.compose.id))
    assert config["Memory"] == 512 * 2**20
    assert config["PidsLimit"] == 128
    assert [(limit["Name"], limit["Hard"]) for limit in config["Ulimits"]] == [("core", 0)]
    mounts = [line.split() for line in fleet.compose.exec("cat", "/proc/mounts").splitlines()]
    options = {place: set(how.split(",")) for _, place, kind, how, *_ in mounts if kind == "tmpfs"}
    for place in ("/run", "/tmp", "/var/spool/cron/crontabs"):
        assert {"noexec", "nosuid", "nodev"} <= options[place]
        assert any(option.startswith("size=") for option in options[place])
    assert fleet.compose.exec("stat", "-c", "%a", "/run", "/tmp", "/var/spool/cron/crontabs") == "755\n1777\n1730\n"


def test_stopping_it_kills_nothing(fleet: SimpleNamespace) -> None:
    until(fleet.compose.ran, 60, fleet.compose.logs)
    assert fleet.compose.stop(10) == 0


def test_the_password_may_be_in_the_folder_of_secrets_and_of_any_characters(
    engine: Engine, fleet: SimpleNamespace
) -> None:
    until(fleet.compose_secret.ran, 60, fleet.compose_secret.logs)
    assert set(engine.asked_by("composed")) == {PASSWORD}


def test_the_demo_brings_up_a_node_and_files_appear(engine: Engine, fleet: SimpleNamespace) -> None:
    until(lambda: fleet.compose_demo.ran(2), 60, fleet.compose_demo.logs)
    files = engine.files(fleet.compose_demo.data)
    assert len([name for name in files if name.endswith("_pexHistoryConf.csv")]) >= 2
    assert engine.rows(fleet.compose_demo.data, "pexHistoryConf.csv") >= 3  # few were held since this time yesterday
    warnings = [line for line in fleet.compose_demo.logs.splitlines() if " WARNING " in line]
    assert [line for line in warnings if "another run is under way" not in line] == [], "on a busy machine"
    assert " ERROR " not in fleet.compose_demo.logs
    assert "FAIL" not in fleet.compose_demo.logs
