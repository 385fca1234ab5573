"""The image on a real Docker Engine, collecting from a node in this process, with cron firing.

Everything is made for the session and taken away after it, by id: an image, a network, containers.
A module that needs cron to fire starts its containers in a function `start`: those of all
modules are started together, so that they share the one minute's wait.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.management_node import ManagementNode, calls, certificates, faults
from tests.management_node.server import Request

ROOT = Path(__file__).resolve().parents[2]
EVERY_MINUTE, NEVER = "* * * * *", "0 0 29 2 *"
# What compose.yaml sets; `docker run` words for it.
HARDENED = (
    *("--read-only", "--tmpfs", "/run:mode=755,size=4m", "--tmpfs", "/tmp:size=64m"),
    *("--tmpfs", "/var/spool/cron/crontabs:mode=1730,size=1m"),
    *("--cap-drop", "ALL", "--cap-add", "CHOWN", "--cap-add", "SETGID", "--cap-add", "SETUID"),
    *("--security-opt", "no-new-privileges", "--memory", "512m", "--pids-limit", "128", "--ulimit", "core=0"),
)

both_ways = pytest.mark.parametrize("flags", [(), HARDENED], ids=["plain", "hardened"])


def docker(*words: str, check: bool = True, stdin: str | bytes | None = None, env: dict[str, str] | None = None) -> str:
    """Runs docker and tells what it printed, on both outputs."""
    done = subprocess.run(
        ["docker", *words],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        env=os.environ | (env or {}),
    )
    output = done.stdout.decode(errors="surrogateescape")
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(words[:2])} ended with {done.returncode}:\n{output}")
    return output


def until(true: Callable[[], Any], seconds: float, what: str) -> Any:
    """Waits for something and hands it on; fails when it does not come in time."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return value


@dataclass
class Container:
    id: str
    data: Path | None = None

    @property
    def logs(self) -> str:
        return docker("logs", self.id)

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads(docker("inspect", "--format", "{{json .State}}", self.id)))

    def exec(self, *words: str, user: str = "0", check: bool = True, stdin: str | None = None) -> str:
        return docker("exec", "-i", "--user", user, self.id, *words, check=check, stdin=stdin)

    def stop(self, seconds: int = 20) -> int:
        """The exit code after docker stop: 137 where it was killed, since it had not ended after so many seconds."""
        docker("stop", "--time", str(seconds), self.id)
        code: int = self.state["ExitCode"]
        return code

    def wait(self) -> int:
        return int(docker("wait", self.id))

    def scheduling(self, times: int = 1) -> bool:
        """Whether it began to schedule so many times: the last line of each start's own check is there."""
        last = ("The first run collects", "The next run collects", "What the next run", "The container goes on")
        return sum(self.logs.count(words) for words in last) >= times

    def ran(self, times: int = 1) -> bool:
        """Whether cron started that many runs and they ended."""
        log = self.logs
        return log.count("waiting, ") + log.count(" ERROR ") >= times


@dataclass
class Engine:
    image: str
    network: str
    node: ManagementNode
    folder: Path
    toolbox: str = ""
    minute: float = field(default_factory=lambda: (time.time() + 110) // 60 * 60)
    """When cron fires for the fleet (seconds since the epoch): time enough to start it."""
    made: list[str] = field(default_factory=list)
    cleanups: list[Callable[[], object]] = field(default_factory=list)

    def once(self) -> str:
        """DATA_CRON_TIME for that minute alone: fewer runs that disturb other tests."""
        return f"{time.gmtime(self.minute).tm_min} * * * *"

    def settings(self, **changes: str | None) -> dict[str, str]:
        """What a user fills in; the node's certificate is known by its fingerprint."""
        given: dict[str, str | None] = {
            "DEFAULT_MGR_ADDRESS": self.node.address,
            "DEFAULT_MGR_SECRET": self.node.secret,
            "DATA_CRON_TIME": EVERY_MINUTE,
            "DEFAULT_MGR_TLS_FINGERPRINT": self.node.certificate.fingerprint,
        } | changes
        return {name: value for name, value in given.items() if value is not None}

    def data(self, owner: str = "", mode: str = "755") -> Path:
        """A new folder for the data; one that the owner's name is empty for is left to Docker to make."""
        path = self.folder / secrets.token_hex(4)
        if owner:
            self.sh(f"mkdir -m {mode} {path} && chown {owner} {path}")
        return path

    def create(
        self,
        *arguments: str,
        flags: tuple[str, ...] = (),
        data: Path | None = None,
        env: dict[str, str] | None = None,
        mount: bool = True,
    ) -> Container:
        """`docker run -d` without having it yet run."""
        data = data or self.data()
        volume = ("-v", f"{data}:/app/data") if mount else ()
        pairs = [word for pair in (env or {}).items() for word in ("-e", "=".join(pair))]
        words = ("create", "--network", self.network, *volume, *flags, *pairs, self.image, *arguments)
        container = Container(docker(*words).splitlines()[-1], data)
        self.made.append(container.id)
        return container

    def start(self, *arguments: str, **how: Any) -> Container:
        """`docker run -d`."""
        container = self.create(*arguments, **how)
        docker("start", container.id)
        return container

    def idle(self, **how: Any) -> Container:
        """A container that schedules, and whose schedule does not come."""
        container = self.start(env=how.pop("env", self.settings(DATA_CRON_TIME=NEVER)), **how)
        until(container.scheduling, 60, "cron")
        return container

    def busy(self, flags: tuple[str, ...] = (), data: Path | None = None, **settings: str | None) -> Container:
        """A container in the middle of a run, which the node does not answer."""
        user = self.keep_waiting()
        given = {"DEFAULT_MGR_USERNAME": user, "DATA_CRON_TIME": NEVER, "DATA_RUN_ON_START": "true"}
        container = self.start(env=self.settings(**given | settings), flags=flags, data=data)
        asked = "a request of the run's, besides that of the start's own check"
        until(lambda: len(self.asked_by(user)) > 1 or not container.state["Running"], 60, asked)
        assert container.state["Running"], container.logs
        return container

    def collect(self, data: Path, flags: tuple[str, ...] = (), **settings: str | None) -> str:
        """A collection that ends well; what it said."""
        code, logs = self.run("collect", env=self.settings(**settings), data=data, flags=flags)
        assert code == 0, logs
        return logs

    def keep_waiting(self, user: str = "") -> str:
        """The node answers this user late; a new user where none is named."""
        user = user or f"user-{secrets.token_hex(4)}"
        self.node.faults.add(faults.hang(40), when=lambda request: sent(request)[0] == user, times=None)
        return user

    def file(self, content: str | bytes, owner: str = "0:0", mode: str = "600") -> Path:
        """A file outside of the data folders."""
        path = self.folder / secrets.token_hex(4)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.sh(f"chown {owner} {path} && chmod {mode} {path}")
        return path

    def run(self, *arguments: str, **how: Any) -> tuple[int, str]:
        """`docker run`: the exit code, and what was printed."""
        container = self.start(*arguments, **how)
        return container.wait(), container.logs

    def sh(self, script: str) -> str:
        """A shell script as root in a container that sees the data folders: the tests need not be root."""
        return docker("exec", "-i", self.toolbox, "sh", "-eu", stdin=script)

    def files(self, data: Path) -> dict[str, str]:
        """Every file in a data folder, with its owner."""
        listed = self.sh(f"cd {data} && find . -mindepth 1 -printf '%P %U:%G\\n'")
        return dict(line.rsplit(" ", 1) for line in listed.splitlines())

    def rows(self, data: Path, name: str) -> int:
        """How many rows a file has, without its header; no cell here holds a line break of CRLF."""
        return self.sh(f"cat {data}/{name}").count("\r\n") - 1

    def asked_by(self, username: str) -> list[str]:
        """The passwords that this user sent, in requests' order."""
        pairs = [sent(request) for request in self.node.requests]
        return [password for name, password in pairs if name == username]


def sent(request: Request) -> tuple[str, str]:
    """The user and the password of a request."""
    encoded = request.headers.get("Authorization", "Basic ").split(" ")[1]
    user, _, password = base64.b64decode(encoded).decode(errors="surrogateescape").partition(":")
    return user, password


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What stops a run of cron's comes first: a run does not wait for its node forever."""
    items.sort(key=lambda item: "in_the_middle_of_crons_run" not in item.name)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    found = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True)
    if found.returncode:
        pytest.fail(f"these tests need a Docker Engine: {found.stderr.strip()}", pytrace=False)
    name = f"pexip-history-test-{secrets.token_hex(4)}"
    made: list[str] = []
    cleanups: list[Callable[[], object]] = []
    folder = tmp_path_factory.mktemp("image")
    folder.chmod(0o755)
    for parent in (folder.parent, folder.parent.parent):
        parent.chmod(0o755)  # a folder's owner has to reach it
    try:
        docker("build", "--tag", name, str(ROOT))
        docker("network", "create", name)
        [config] = json.loads(docker("network", "inspect", "--format", "{{json .IPAM.Config}}", name))
        host = config["Gateway"]
        with ManagementNode(host=host, certificate=certificates.issued(host)) as node:
            load_two_days(node)
            engine = Engine(name, name, node, folder, made=made, cleanups=cleanups)
            words = ("run", "-d", "-v", f"{folder}:{folder}", "--entrypoint", "sleep", name, "infinity")
            engine.toolbox = docker(*words).strip()
            made.append(engine.toolbox)
            yield engine
    finally:
        for clean in cleanups:
            clean()
        if made:
            docker("exec", made[0], "find", str(folder), "-mindepth", "1", "-delete", check=False)
            docker("rm", "--force", "--volumes", *made, check=False)
        docker("network", "rm", name, check=False)
        docker("image", "rm", name, check=False)


def load_two_days(node: ManagementNode) -> None:
    today = datetime.now(UTC).date()
    for day in (today - timedelta(days=1), today):
        node.load(calls(1, day, 60))


@pytest.fixture(scope="session")
def fleet(engine: Engine, request: pytest.FixtureRequest) -> SimpleNamespace:
    """The containers that each module's `start` made, after cron fired in all of them."""
    modules = dict.fromkeys(getattr(item, "module", None) for item in request.session.items)
    groups = {module: module.start for module in modules if hasattr(module, "start")}
    containers: dict[str, Container] = {}
    for begin in groups.values():
        containers |= begin(engine)
    time.sleep(max(0, engine.minute - time.time()) + 2)
    return SimpleNamespace(**containers)
