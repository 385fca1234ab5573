"""README.md and the how-tos on a real engine: the pages' own commands, in order, in a fresh clone.

As root and as another user, who may use the engine and has no right besides. What a page leaves to the reader (the
node's address in .env) is done as a reader would; a password is typed on a terminal. tests/test_docs.py runs every
page, with stand-ins for docker.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.management_node import ManagementNode, certificates
from tests.test_docs import ADDRESS, DOCS, pasted, section

from .conftest import ROOT, Engine, docker, load_two_days

PASSWORD = " $HOME '\"# \\ "
IMAGE = "pexip-history-collector"


@dataclass
class Person:
    """Someone in a clone of their own."""

    uid: int
    engine: Engine
    node: ManagementNode
    folder: Path
    said: str = ""

    def __call__(self, script: str, expected: int = 0, folder: Path | None = None) -> str:
        """What a block of a page says when it is run."""
        for words, ours in (
            (f"{ADDRESS}:443", ADDRESS),
            (ADDRESS, self.node.address),
            (" --pull", ""),  # asks a registry
            (f'secrets" {IMAGE}', f'secrets" {self.engine.image}'),
            ('secrets:/secrets:ro" ' + IMAGE, f'secrets:/secrets:ro" {self.engine.image}'),
            ("--name collector", f"--name {self.folder.parent.name}"),
            *(
                (f"docker {verb} collector", f"docker {verb} {self.folder.parent.name}")
                for verb in ("exec", "stop", "rm")
            ),
        ):
            script = script.replace(words, ours)
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder.parent), "COLLECTOR_IMAGE": self.engine.image}
        env["COMPOSE_PROJECT_NAME"] = self.folder.parent.name  # the folder's name may be that of a project of yours
        socket = Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
        become = () if self.uid == os.geteuid() else ("setpriv", f"--reuid={self.uid}", f"--regid={self.uid}")
        become += (f"--groups={socket.stat().st_gid}",) if become else ()
        env |= {name: value for name, value in os.environ.items() if name == "DOCKER_HOST"}
        return pasted(script, folder or self.folder, env, f"{self.node.secret}\n", expected, become)


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "safe.directory=*", "-c", "user.name=t", "-c", "user.email=t@example.com", *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, encoding="utf-8").stdout


@pytest.fixture(scope="module")
def node(engine: Engine) -> Iterator[ManagementNode]:
    """One with a certificate of its own, as it is installed."""
    host = engine.node.address.partition(":")[0]
    with ManagementNode(
        host=host, secret=PASSWORD, certificate=certificates.self_signed(host), tells_time=True
    ) as node:
        load_two_days(node)
        yield node


@pytest.fixture(scope="module")
def upstream(engine: Engine) -> Path:
    """The repository as it is here, with what is not committed yet."""
    folder = engine.folder / "upstream"
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.decode()
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
    return folder


@pytest.fixture
def home() -> Iterator[Path]:
    """Not below pytest's own folder, which only its owner may enter."""
    with tempfile.TemporaryDirectory(prefix="pexip-history-pages-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(params=["root", "another user"])
def person(
    request: pytest.FixtureRequest, engine: Engine, node: ManagementNode, upstream: Path, home: Path
) -> Iterator[Person]:
    if request.param == "root" and os.geteuid():
        pytest.skip("only root can be root")
    uid = 0 if request.param == "root" else 4321 if os.geteuid() == 0 else os.geteuid()
    folder = home / IMAGE
    shutil.copytree(upstream, home / "upstream")
    git(home, "clone", "-q", "upstream", IMAGE)
    (home / ".gitconfig").write_text("[user]\n\tname = t\n\temail = t@example.com\n")
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{uid}:{uid}", home], check=True)
    node.secret = PASSWORD
    person = Person(uid, engine, node, folder)
    yield person
    docker("compose", "--project-name", home.name, "down", "--volumes", check=False)
    docker("rm", "--force", home.name, check=False)


def set_up(person: Person, ca: bool = True) -> str:
    """README's set-up, the address written into .env, and the other page's CA file; the rest of it, from `check` on."""
    *files, start = section(ROOT / "README.md", "Set it up")
    for block in files:
        person(block)
    env = person.folder / ".env"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert stat.S_IMODE((person.folder / "secrets" / "mgr_secret").stat().st_mode) == 0o600
    person(f"sed -i 's/^DEFAULT_MGR_ADDRESS=$/DEFAULT_MGR_ADDRESS={person.node.address}/' .env")
    if ca:
        for block in section(DOCS / "self-signed-certificates.md", "A CA file"):
            person(block)
    return start


def each_once(folder: Path) -> bytes:
    """The running history of a clone, in which no conference is twice."""
    file = folder / "data" / "pexHistoryConf.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        ids = [row["id"] for row in csv.DictReader(lines)]
    assert len(ids) == len(set(ids)) > 10
    return file.read_bytes()


def test_from_clone_to_the_third_month_as_written(person: Person) -> None:
    said = person(set_up(person))
    assert "FAIL" not in said
    assert "warn" not in said
    [works] = section(ROOT / "README.md", "See that it works")
    said = person(works)
    assert re.search(r"\d+ conferences, \d+ participants", said)
    assert "report.html" in said

    owner = person.uid or 1000
    assert {file.stat().st_uid for file in (person.folder / "data").iterdir()} == {owner}
    assert "id," in person("head -n 1 data/pexHistoryConf.csv"), "who set it up can read what is collected"

    [schedule] = section(DOCS / "day-two.md", "Another schedule")
    person(schedule.splitlines()[0])
    check = "docker compose run --rm collector check"
    assert "warn container: the one that was started" in (said := person(check))
    assert "DATA_CRON_TIME ('5 0 * * *', here '30 5 * * *')" in said
    assert "05:30:00" in person(schedule)
    assert "ok   container: the one that was started" in person(check)

    person.node.secret = f"{PASSWORD}2"
    assert "FAIL credentials" in person(check, expected=1)
    password, another = section(DOCS / "day-two.md", "Another password")
    person(password)
    assert "ok   credentials" in person(another)
    assert " done" in person(
        "docker compose exec collector collector.py collect && docker compose exec collector collector.py status"
    )

    person(
        "echo '# a later version' >>compose.yaml; git commit -qam 'A later version'",
        folder=person.folder.parent / "upstream",
    )
    [upgrade] = section(DOCS / "upgrading.md", "The collector")
    assert "ok   container" in person(upgrade)
    assert "# a later version" in (person.folder / "compose.yaml").read_text()
    assert git(person.folder, "status", "--porcelain") == "", (
        "nothing tracked is edited, and nothing of the user's is shown"
    )

    moving = DOCS / "backup-and-moving.md"
    [backup], [restore] = section(moving, "Back up"), section(moving, "Restore")
    before = (person.folder / "data" / "pexHistoryConf.csv").read_bytes()
    person(backup)
    person(restore)
    assert each_once(person.folder).startswith(before), "the node has calls that ended meanwhile"

    there = person.folder.parent / "there"
    [pack, unpack] = section(moving, "Move to another machine")
    person(f"{pack}mkdir ../there\nmv ../*move.tar.gz ../there/")
    said = person(unpack, folder=there)
    assert "FAIL" not in said
    person("docker compose exec collector collector.py collect", folder=there / IMAGE)
    assert each_once(there / IMAGE).startswith(before)
    person("docker compose down", folder=there / IMAGE)


def test_with_docker_run_as_written(person: Person) -> None:
    set_up(person)
    [start, remove] = section(DOCS / "other-schedulers.md", "docker run")
    said = person(start)
    assert "FAIL" not in said
    assert re.search(r"\d+ conferences, \d+ participants", said)
    assert "id," in person("head -n 1 data/pexHistoryConf.csv")
    person(remove)
    assert "FAIL" not in person(start), "and once more, as after a change of .env"
