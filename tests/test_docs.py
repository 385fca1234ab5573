"""The commands of README.md and of the how-tos, run as they stand there.

Every `sh` block of a page is run by bash, in order, in a folder with the repository's files. docker and
other programs that are not to be had here are stand_ins.py; collector.py, git, openssl, tar and the like are real,
and so is the node. `yaml` and `ini` blocks that begin with a file's name are written there first. A block that is
`sh exit=1` fails, and `sh at=elsewhere` is for another machine, to which the archives beside the clone were copied.
What a person types goes in through a terminal. The image, and a real engine, are tests/image/test_pages.py's.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from tests import stand_ins
from tests.conftest import ROOT
from tests.management_node import ManagementNode, OAuth2, calls, certificates, conference, participant
from tests.management_node.server import Reply, Server

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

DOCS = ROOT / "docs"
PAGES = sorted(p for p in (ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.glob("*.md")) if p.name != "analysing.md")
FILES = (
    "Dockerfile",
    "Makefile",
    "compose.yaml",
    "compose.demo.yaml",
    ".env.example",
    "collector.py",
    "pexip_history",
    "entrypoint.sh",
    "requirements.txt",
)
BLOCK = re.compile(r"^(?P<indent> *)```(?P<kind>\w+)(?P<note>[^\n]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
ADDRESS = "mgr.example.com"
PASSWORD = "correct horse #1"


@dataclass(frozen=True)
class Block:
    kind: str
    note: str
    text: str

    @property
    def file(self) -> str:
        """The file that it says it is, or nothing."""
        named = re.match(r"# (\S+\.\w+)\n", self.text)
        return named[1] if named else ""


def blocks(page: Path, *kinds: str) -> list[Block]:
    return blocks_of(page.read_text(encoding="utf-8"), *kinds)


def section(page: Path, title: str) -> list[str]:
    """The commands under a heading of a page, in blocks."""
    parts = re.split(r"^#{1,3} (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    [text] = [body for heading, body in zip(parts[1::2], parts[2::2], strict=True) if heading == title]
    return [block.text for block in blocks_of(text, "sh")]


def blocks_of(text: str, *kinds: str) -> list[Block]:
    found = []
    for match in BLOCK.finditer(text):
        text = re.sub(f"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        found.append(Block(match["kind"], match["note"].strip(), text))
    return [block for block in found if not kinds or block.kind in kinds]


@pytest.fixture(scope="module")
def nodes() -> Iterator[dict[str, ManagementNode]]:
    """One with a certificate of the company's CA, one with a certificate of its own."""
    today = datetime.now(UTC).date()
    with (
        ManagementNode(secret=PASSWORD) as usual,
        ManagementNode(secret=PASSWORD, certificate=certificates.self_signed()) as own,
    ):
        for node in (usual, own):
            for days in (1, 9, 20):
                node.load(calls(days, today - timedelta(days=days), 12))
            yesterday = f"{today - timedelta(days=1)}T10:00:00"
            held = conference(
                name="Boardroom", tag="acme", start_time=yesterday, end_time=yesterday.replace("T10", "T11")
            )
            ann = participant(held, remote_alias="ann@example.com", end_time=held["end_time"], call_quality="3_bad")
            node.add([held], [ann])
        yield {"": usual, "self-signed-certificates.md": own}


def pasted(
    script: str, folder: Path, env: dict[str, str], typed: str, expected: int, become: tuple[str, ...] = ()
) -> str:
    """What the script says, run by bash on a terminal on which that was typed; Ctrl-D ends what is there."""
    person, keyboard = os.openpty()
    try:
        os.write(person, f"{typed}\x04".encode())
        words = [*become, "bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(
            words, cwd=folder, env=env, stdin=keyboard, capture_output=True, encoding="utf-8", timeout=180
        )
    finally:
        os.close(keyboard)
        os.close(person)
    assert done.returncode == expected, f"ended with {done.returncode}:\n{script}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@dataclass
class Sandbox:
    """A folder with the repository's files, in which a page's commands run."""

    folder: Path
    node: ManagementNode
    env: dict[str, str] = field(default_factory=dict)
    output: str = ""
    typed: str = PASSWORD + "\n"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def sh(self, script: str, expected: int = 0, folder: Path | None = None) -> None:
        here = script.replace(f"{ADDRESS}:443", ADDRESS).replace(ADDRESS, self.node.address)
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        here = here.replace("--month 2026-10", f"--month {yesterday:%Y-%m}")
        here = here.replace("--from 2026-11-16 --to 2026-11-20", f"--from {yesterday} --to {yesterday}")
        here = here.replace("--round-up", "--round-up --partial")  # the node's month is not over
        self.output += f"{script}\n{pasted(here, folder or self.folder, self.env, self.typed, expected)}"

    def elsewhere(self) -> Path:
        """The folder on another machine into which the archives were copied."""
        there = self.folder.parent / "elsewhere"
        there.mkdir()
        for archive in self.folder.parent.glob("*.tar.gz"):
            shutil.copy(archive, there)
        return there

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.folder, capture_output=True, encoding="utf-8", check=True)
        return done.stdout

    def write(self, name: str, text: str) -> None:
        path = self.folder / "root" / name[1:] if name.startswith("/") else self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(ADDRESS, self.node.address), encoding="utf-8")

    def rows(self, file: str) -> list[dict[str, str]]:
        with (self.folder / file).open(encoding="utf-8-sig", newline="") as lines:
            return list(csv.DictReader(lines))


def sandbox(page: Path, parent: Path, nodes: dict[str, ManagementNode]) -> Sandbox:
    node = nodes.get(page.name, nodes[""])
    folder, programs = parent / "pexip-history-collector", parent / "bin"
    folder.mkdir()
    programs.mkdir()
    for file in FILES:
        (folder / file).symlink_to(ROOT / file)
    shutil.copy(ROOT / ".gitignore", folder)  # which git reads through no link
    for name in stand_ins.STAND_INS:
        (programs / name).write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            f"from tests import stand_ins\nsys.exit(stand_ins.STAND_INS[{name!r}](sys.argv[1:]))\n"
        )
        (programs / name).chmod(0o755)
    for words in (
        ("init", "-q"),
        ("add", "-A"),
        ("-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "x"),
    ):
        subprocess.run(["git", *words], cwd=folder, check=True)
    trusted = {"DEFAULT_MGR_CA_FILE": str(node.ca_file)} if node is nodes[""] else {}
    return Sandbox(
        folder,
        node,
        {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(parent),
            "SANDBOX": str(folder),
            "TRUSTED": json.dumps(trusted),
            "FILLED_IN": json.dumps({"DEFAULT_MGR_ADDRESS": node.address}),
        },
    )


# What a page takes for granted, and what must hold after its commands.


def set_up(here: Sandbox) -> None:
    """README's set-up, as far as `check`."""
    for block in section(ROOT / "README.md", "Set it up"):
        if not block.startswith("docker "):
            here.sh(block)


def new_client(here: Sandbox) -> None:
    """The node showed the key of the client whose id is on the page; a reader who follows it pastes the key."""
    set_up(here)
    [shown] = re.findall("_CLIENT_ID=(.+)", (DOCS / "oauth2.md").read_text())
    here.node.oauth2 = OAuth2()
    here.typed = here.node.oauth2.add(shown).decode()


def without_a_password(here: Sandbox) -> None:
    assert here.output.count("ok   credentials: OAuth2 client") == 1
    assert here.node.oauth2
    assert here.node.oauth2.tokens
    assert (here.folder / "secrets" / "mgr_client_key.pem").stat().st_mode & 0o777 == 0o600


def measuring(here: Sandbox) -> None:
    set_up(here)
    here.write("secrets/ca.pem", here.node.ca_file.read_text())


def measured(here: Sandbox) -> None:
    """The commands show what the page says they show, and no address, name or password."""
    assert "conferences, ended" in here.output
    assert re.search(r"^participant/\?end_time__gte=.*&order_by=end_time: 200, \d+ bytes, [\d.]+ s$", here.output, re.M)
    schema = json.loads((here.folder / "participant-schema.json").read_text())
    assert {"filtering", "fields"} <= set(schema)
    shown = here.output.partition("DATA_LOG_LEVEL=DEBUG")[2]
    assert here.node.address not in shown
    assert PASSWORD not in here.output


def running(here: Sandbox) -> None:
    set_up(here)
    here.sh("docker compose up -d; docker compose exec collector collector.py collect")


def old_files(here: Sandbox) -> None:
    """Participants as the script wrote them, quoted and with a byte order mark; conferences without a header."""
    day = calls(1, datetime.now(UTC).date() - timedelta(days=1), 12)
    conferences = [conference for conference, _ in day]
    participants = [participant for _, participants in day for participant in participants]
    old = here.folder / "old"
    old.mkdir()
    with (old / "pexHistoryPart.csv").open("w", encoding="utf-8-sig", newline="") as file:
        columns = ["id", "end_time", "display_name"]
        writer = csv.DictWriter(file, columns, quoting=csv.QUOTE_ALL, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(sorted(participants, key=lambda record: record["end_time"])[:5])
    with (old / "pexHistoryConf.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([record[name] for name in sorted(record)] for record in conferences[:3])


def moved(here: Sandbox) -> None:
    participants = here.rows("data/pexHistoryPart.csv")
    assert len({row["id"] for row in participants}) == len(participants) > 5
    assert list(participants[0])[:3] == ["id", "end_time", "display_name"]
    old = here.rows("old/pexHistoryPart.csv")
    assert [{name: row[name] for name in old[0]} for row in participants[: len(old)]] == old
    assert (here.data / "pexHistoryPart.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    [aside] = here.data.glob("pexHistoryConf.csv.set-aside-*")
    assert aside.read_bytes() == (here.folder / "old" / "pexHistoryConf.csv").read_bytes()
    assert "pexHistoryConf.csv has no header with the columns of the history" in here.output
    together = here.rows("all-conferences.csv")
    assert len(together) == len(here.rows("data/pexHistoryConf.csv")) + 3
    assert all(re.fullmatch("[0-9a-f-]{36}", row["id"]) for row in together)


def verified(here: Sandbox) -> None:
    assert "FAIL TLS" in here.output
    assert here.output.count("ok   credentials") == 2
    assert here.output.count(here.node.certificate.fingerprint) >= 3


def both(here: Sandbox) -> None:
    import duckdb

    for folder in (here.folder, here.folder.parent / "pexip-london"):
        here.sh("docker compose run --rm collector collect", folder=folder)
    [query] = blocks(DOCS / "several-management-nodes.md", "sql")
    found = duckdb.sql(query.text.replace("'*/data/", f"'{here.folder.parent}/*/data/")).fetchall()
    assert [node for node, _ in found] == ["pexip-history-collector", "pexip-london"]
    assert all(count > 0 for _, count in found)


def scheduled_elsewhere(here: Sandbox) -> None:
    [line] = re.findall(
        "^ExecStart=/usr/bin/(docker run .*)$",
        (here.folder / "root/etc/systemd/system/pexip-history.service").read_text(),
        re.M,
    )
    here.sh(line)
    for folder in ("claim", "root/srv/pexip-history", "data"):
        assert here.rows(f"{folder}/pexHistoryConf.csv"), folder


def told(here: Sandbox) -> None:
    """There is a monitor that takes every ping."""

    set_up(here)
    monitor = Server(("127.0.0.1", 0), None, lambda request: Reply(200), lambda: None)
    monitor.start()
    here.sh(f"echo DATA_PING_URL=http://127.0.0.1:{monitor.server_address[1]}/ping/x >>.env")


def reported(here: Sandbox) -> None:
    assert "At a glance" in (here.data / "report.html").read_text(encoding="utf-8")


def once(here: Sandbox) -> None:
    """Nothing was written twice, whatever was restored, moved or rebuilt."""
    found = [
        row["id"]
        for file in here.folder.glob("**/pexHistoryConf.csv")
        if "broken" not in str(file)
        for row in here.rows(str(file))
    ]
    assert len(found) == len(set(found)) > 0


Step = Callable[[Sandbox], None]
AROUND: dict[str, tuple[Step | None, Step | None]] = {
    "README.md": (None, once),
    "day-two.md": (running, once),
    "data-protection.md": (running, once),
    "exporting.md": (running, once),
    "troubleshooting.md": (set_up, None),
    "moving-from-the-powershell-script.md": (old_files, moved),
    "self-signed-certificates.md": (set_up, verified),
    "limits.md": (measuring, measured),
    "docker-secrets.md": (set_up, None),
    "oauth2.md": (new_client, without_a_password),
    "getting-told.md": (told, None),
    "several-management-nodes.md": (set_up, both),
    "other-schedulers.md": (set_up, scheduled_elsewhere),
    "backup-and-moving.md": (running, once),
    "upgrading.md": (running, once),
    "reading-the-report.md": (running, reported),
}


def needs(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")


def carry_out(page: Path, here: Sandbox) -> None:
    before, after = AROUND[page.name]
    for block in blocks(page, "yaml", "ini"):
        here.write(block.file, block.text)
    if before:
        before(here)
    for block in blocks(page, "sh"):
        notes = dict(note.split("=") for note in block.note.split())
        here.sh(block.text, int(notes.get("exit", 0)), here.elsewhere() if "at" in notes else None)
    if after:
        after(here)
    no_harm_in_git(here)


def no_harm_in_git(here: Sandbox) -> None:
    """No tracked file was edited or removed, and what git would add holds no secret and nobody's calls."""
    assert here.git("diff", "--stat", "HEAD") == ""
    for name in here.git("ls-files", "--others", "--exclude-standard", "-z").split("\0"):
        if name and not name.startswith(("root/", ".secret/", "claim/", ".containers")):  # other places than the clone
            text = (here.folder / name).read_bytes()
            assert PASSWORD.encode() not in text, name
            assert b"PRIVATE KEY" not in text, name
            assert b"display_name," not in text, name


def of_commands() -> list[ParameterSet]:
    """The pages with commands; all but README.md run with the longer tests."""
    marks = {"README.md": ()}
    return [pytest.param(p, marks=marks.get(p.name, pytest.mark.slow), id=p.name) for p in PAGES if blocks(p, "sh")]


@pytest.mark.parametrize("page", of_commands())
def test_the_commands_of_a_page_do_what_it_says(page: Path, nodes: dict[str, ManagementNode], tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    needs("bash", "tar", *(program for program in ("openssl", "curl") if f"{program} " in text))
    carry_out(page, sandbox(page, tmp_path, nodes))


@pytest.mark.slow
def test_pages_that_are_followed_one_after_another_undo_nothing(
    nodes: dict[str, ManagementNode], tmp_path: Path
) -> None:
    """In one clone: a certificate of the node's own, a password's file, another schedule, a monitor, a backup."""
    needs("bash", "tar", "openssl")
    here = sandbox(DOCS / "self-signed-certificates.md", tmp_path, nodes)
    told(here)
    for name in ("self-signed-certificates.md", "docker-secrets.md", "day-two.md", "backup-and-moving.md"):
        for block in blocks(DOCS / name, "sh"):
            if not block.note.startswith("at=") and "exec collector collector.py export" not in block.text:
                expected = int(dict(note.split("=") for note in block.note.split()).get("exit", 0))
                here.sh(block.text, expected)
    env = dict(line.split("=", 1) for line in (here.folder / ".env").read_text().splitlines() if line[:1] not in "#")
    assert env["DEFAULT_MGR_ADDRESS"] == here.node.address
    assert env["DEFAULT_MGR_SECRET_FILE"] == "/secrets/mgr_secret"
    assert env["DATA_CRON_TIME"] == "30 5 * * *"
    assert env["DEFAULT_MGR_TLS_FINGERPRINT"] == here.node.certificate.fingerprint
    assert "DATA_PING_URL" in env
    here.sh("docker compose run --rm collector check")
    once(here)
    no_harm_in_git(here)


def test_a_password_is_typed_the_same_way_on_every_page_and_nothing_follows_what_reads_the_terminal() -> None:
    """Who pastes a whole block types its next line as the password, where the shell knows no bracketed paste."""
    texts = [block.text.splitlines() for page in PAGES for block in blocks(page, "sh")]
    readers = [(line, lines[-1]) for lines in texts for line in lines if re.search(r"\bread -r|\bcat >secrets", line)]
    assert len(readers) >= 6
    assert [line for line, last in readers if last != line] == []
    [way] = {line.strip() for line, _ in readers if "read -r" in line}
    assert "printf 'Password: '" in way


def test_every_block_of_commands_is_one_that_is_run() -> None:
    """No fence that these tests pass by: what is run is `sh`, what is a file says its name."""
    for page in PAGES:
        kinds = {block.kind for block in blocks(page)}
        python = {"python"} if page.name == "exporting.md" else set()  # by tests/test_loading.py
        assert kinds <= {"sh", "yaml", "ini", "sql"} | python, page.name
        assert all(block.file for block in blocks(page, "yaml", "ini")), page.name
        if blocks(page, "sh"):
            assert page.name in AROUND


# What the pages show besides commands.


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link.partition("#")[0]).exists(), f"{page.name}: {link}"


def test_the_readme_begins_with_the_usual_case_in_one_screen_and_links_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 150  # with every setting
    usual = readme.partition("![")[0]
    assert len(usual.splitlines()) <= 50
    for word in ("cp -i .env.example .env", "collector check", "up -d", "collector.py status", "collector.py collect"):
        assert word in usual
    links = set(re.findall(r"\]\(([^)#]+)\)", readme))
    others = {"docs/report.png", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "SECURITY.md", ".env.example"}
    assert links >= {f"docs/{page.name}" for page in DOCS.glob("*.md")} | others


def test_the_numbers_in_the_design_are_those_of_the_code() -> None:
    from pexip_history.ledger import ledger
    from pexip_history.node import answers as records
    from pexip_history.node import api as node
    from pexip_history.node import connection, refusals
    from pexip_history.run import reading

    design = " ".join((DOCS / "design.md").read_text(encoding="utf-8").split())
    for said in (
        f"At most {node.PACE} in {node.PERIOD:.0f} seconds",
        f"It may have {connection.MOST_BYTES / 1e6:.0f} MB",
        f"It may take {connection.LONGEST_ANSWER:.0f} seconds",
        f"A record has at most {records.MOST_FIELDS:,} fields",
        f"asks for {node.PAGE_SIZES[0]:,} records a page",
        f"is forgotten {ledger.KEPT.days} days after",
        f"the last {ledger.RUNS_KEPT:,} runs",
        f"without it {refusals.BUSY_WAIT:.0f} seconds",
        {3: "three times in all"}[reading.MOST_PASSES],
        {4: "A run ends after four hours"}[node.LONGEST_RUN / 3600],
        {15: "differ by more than 15 minutes"}[node.CLOCKS_AGREE.total_seconds() / 60],
    ):
        assert said.lower() in design.lower(), said


def test_the_changelog_begins_with_the_version_that_runs() -> None:
    from pexip_history import __version__

    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+),", changes, re.MULTILINE)[0] == __version__


@pytest.mark.parametrize(
    "words",
    [
        ["compose", "-f", "compose.yaml", "config", "--quiet"],
        ["compose", "-f", "compose.demo.yaml", "config", "--quiet"],
        ["stack", "config", "-c", "stack.yaml"],
    ],
)
def test_compose_and_swarm_take_the_files(words: list[str], tmp_path: Path) -> None:
    needs("docker")
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("Docker Compose is not installed")
    shutil.copy(ROOT / ".env.example", tmp_path / ".env")
    for name in ("compose.yaml", "compose.demo.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "stack.yaml").write_text(elsewhere("stack.yaml"))
    done = subprocess.run(["docker", *words], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".env.old", "oslo.env", "secrets/mgr_secret", "mgr_secret.txt", "ca.pem", "client.key", "node.crt"),
        *("data/pexHistoryConf.csv", "data.broken/x", "data.collector.newer/ledger.sqlite", "demo-data/x", "demo/x"),
        *("archive/2026/pexHistoryPart.csv", "old/pexHistoryPart.csv", "all-conferences.csv", "backup.tar.gz"),
        "compose.override.yaml",
    ],
)
def test_git_takes_no_secret_and_nobodys_calls(name: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert subprocess.run(["git", "check-ignore", "-q", name], cwd=tmp_path).returncode == 0
    kept = subprocess.run(["git", "check-ignore", "-q", ".env.example"], cwd=tmp_path)
    assert kept.returncode == 1, "which is tracked"


def test_a_page_that_changes_env_says_to_start_the_container_again() -> None:
    """A block that writes .env, and is not a part of the set-up or of a move, goes on to `docker compose up -d`."""
    for page in PAGES:
        texts = [block.text for block in blocks(page, "sh")]
        for text, after in itertools.zip_longest(texts, texts[1:], fillvalue=""):
            if re.search(r"(-i .*|>>)\.env$|>>\.env ", text, re.MULTILINE) and "git pull" not in text:
                assert "docker compose up -d" in text + after, f"{page.name}:\n{text}"


def elsewhere(name: str) -> str:
    return next(b.text for b in blocks(DOCS / "other-schedulers.md") if b.file.endswith(name))


def test_kubernetes_takes_the_manifest() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    manifest = list(yaml.safe_load_all(elsewhere("pexip-history.yaml")))
    assert [part["kind"] for part in manifest] == ["PersistentVolumeClaim", "CronJob"]
    for part in manifest:
        validate.validate(part, "1.30", strict=True)


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    needs("systemd-analyze")
    (tmp_path / "pexip-history.timer").write_text(elsewhere(".timer"))
    service = elsewhere(".service").replace("/usr/bin/docker", "/bin/true")  # it need not be on this machine
    (tmp_path / "pexip-history.service").write_text(re.sub("^Requires=.*\n", "", service, flags=re.MULTILINE))
    done = subprocess.run(["systemd-analyze", "verify", *tmp_path.iterdir()], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
