"""The commands of README.md and of the how-tos, run as they stand there.

Every `sh` block of a page is run by bash, in order, in a folder with the repository's files. docker and
other programs that are not to be had here are stand_ins.py; collector.py, openssl, tar and the like are real,
and so is the node. `yaml` and `ini` blocks that begin with a file's name are written there first.
"""

from __future__ import annotations

import csv
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

from tests import stand_ins
from tests.conftest import ROOT
from tests.management_node import ManagementNode, OAuth2, calls, certificates

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
PASSWORD = "the password"


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
    found = []
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
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
        yield {"": usual, "self-signed-certificates.md": own}


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

    def sh(self, script: str, expected: int = 0) -> None:
        done = subprocess.run(
            [
                "bash",
                "-euo",
                "pipefail",
                "-c",
                script.replace(f"{ADDRESS}:443", ADDRESS).replace(ADDRESS, self.node.address),
            ],
            cwd=self.folder,
            env=self.env,
            input=self.typed,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        said = f"{script}\n{done.stdout}{done.stderr}"
        assert done.returncode == expected, f"ended with {done.returncode}:\n{said}"
        self.output += said

    def write(self, name: str, text: str) -> None:
        path = self.folder / "root" / name[1:] if name.startswith("/") else self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(ADDRESS, self.node.address), encoding="utf-8")

    def rows(self, file: str) -> list[dict[str, str]]:
        with (self.folder / file).open(encoding="utf-8-sig", newline="") as lines:
            return list(csv.DictReader(lines))


def sandbox(page: Path, parent: Path, nodes: dict[str, ManagementNode]) -> Sandbox:
    node = nodes.get(page.name, nodes[""])
    folder, programs = parent / "here", parent / "bin"
    folder.mkdir()
    programs.mkdir()
    for file in FILES:
        (folder / file).symlink_to(ROOT / file)
    for name in stand_ins.STAND_INS:
        script = programs / name
        script.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            f"from tests import stand_ins\nsys.exit(stand_ins.STAND_INS[{name!r}](sys.argv[1:]))\n"
        )
        script.chmod(0o755)
    trusted = {"DEFAULT_MGR_CA_FILE": str(node.ca_file)} if node is nodes[""] else {}
    return Sandbox(
        folder,
        node,
        {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(parent),
            "SANDBOX": str(folder),
            "TRUSTED": json.dumps(trusted),
            "FILLED_IN": json.dumps(
                {
                    "DEFAULT_MGR_ADDRESS": node.address,
                    "DEFAULT_MGR_SECRET": PASSWORD,
                    "DATA_CRON_TIME": "5 0 * * *",
                }
            ),
        },
    )


# What a page takes for granted, and what must hold after its commands.


def filled_in(here: Sandbox) -> None:
    here.sh("cp .env.example .env")


def password_in_a_file(here: Sandbox) -> None:
    """What the page asks for between its commands: the # taken out of compose.yaml, no password in .env."""
    here.env["FILLED_IN"] = json.dumps({**json.loads(here.env["FILLED_IN"]), "DEFAULT_MGR_SECRET": ""})
    text = (here.folder / "compose.yaml").read_text(encoding="utf-8")
    (here.folder / "compose.yaml").unlink()
    here.write("compose.yaml", re.sub(r"^#(?! \S)", "", text, flags=re.MULTILINE))


def secret_file(here: Sandbox) -> None:
    filled_in(here)
    here.write("mgr_secret.txt", PASSWORD)


def new_client(here: Sandbox) -> None:
    """The node showed the key of the client whose id is on the page; a reader who follows it pastes the key."""
    filled_in(here)
    [shown] = {re.search("_CLIENT_ID: (.+)", b.text)[1] for b in blocks(DOCS / "oauth2.md", "yaml")}  # type: ignore[index]
    here.node.oauth2 = OAuth2()
    here.typed = here.node.oauth2.add(shown).decode()


def without_a_password(here: Sandbox) -> None:
    assert here.output.count("ok   credentials: OAuth2 client") == 1
    assert here.node.oauth2
    assert here.node.oauth2.tokens
    assert (here.folder / "mgr_client_key.pem").stat().st_mode & 0o777 == 0o600


def measuring(here: Sandbox) -> None:
    secret_file(here)
    here.write("ca.pem", here.node.ca_file.read_text())


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
    filled_in(here)
    here.sh("docker run -d --name collector --env-file .env -v ./data:/app/data pexip-history-collector")
    here.sh("docker exec collector collector.py collect")


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
    assert here.node.certificate
    assert here.output.count(here.node.certificate.fingerprint) >= 3


def everything(here: Sandbox) -> None:
    assert len(here.rows("data/pexHistoryConf.csv")) == 36
    assert "36 conferences, ended" in here.output


def both(here: Sandbox) -> None:
    import duckdb

    for name in ("oslo", "london"):
        here.sh(f"docker compose -f several.yaml run --rm {name} collect")
    [query] = blocks(DOCS / "several-management-nodes.md", "sql")
    found = duckdb.sql(
        query.text.replace("data/*/", f"{here.data}/*/").replace("data/([^/]+)/", "data/([^/]+)/")
    ).fetchall()
    assert [node for node, _ in found] == ["london", "oslo"]
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
    "README.md": (password_in_a_file, once),
    "troubleshooting.md": (filled_in, None),
    "moving-from-the-powershell-script.md": (old_files, moved),
    "self-signed-certificates.md": (filled_in, verified),
    "limits.md": (measuring, measured),
    "docker-secrets.md": (filled_in, None),
    "oauth2.md": (new_client, without_a_password),
    "getting-told.md": (filled_in, None),
    "several-management-nodes.md": (None, both),
    "collecting-everything.md": (filled_in, everything),
    "other-schedulers.md": (secret_file, scheduled_elsewhere),
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
        if not block.file.startswith("compose"):
            here.write(block.file, block.text)
    if before:
        before(here)
    for block in blocks(page):
        if block.kind == "yaml" and block.file.startswith("compose"):  # not before the page says so
            here.write(block.file, block.text)
        if block.kind != "sh":
            continue
        if page.name in ("README.md", "docker-secrets.md") and "--name" in block.text:
            (here.folder / ".containers.json").unlink(missing_ok=True)  # one way or the other
        here.sh(block.text, int(block.note.removeprefix("exit=") or 0))
    if after:
        after(here)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "sh")], ids=lambda p: p.name)
def test_the_commands_of_a_page_do_what_it_says(page: Path, nodes: dict[str, ManagementNode], tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    needs("bash", "tar", *(program for program in ("openssl", "curl") if f"{program} " in text))
    carry_out(page, sandbox(page, tmp_path, nodes))


def test_every_block_of_commands_is_one_that_is_run() -> None:
    """No fence that these tests pass by: what is run is `sh`, what is a file says its name."""
    for page in PAGES:
        kinds = {block.kind for block in blocks(page)}
        assert kinds <= {"sh", "yaml", "ini", "sql"}, page.name
        assert all(block.file for block in blocks(page, "yaml", "ini")), page.name
        if blocks(page, "sh"):
            assert page.name in AROUND


# What the pages show besides commands.


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link.partition("#")[0]).exists(), f"{page.name}: {link}"


def test_the_readme_is_short_and_links_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 200
    links = set(re.findall(r"\]\(([^)#]+)\)", readme))
    others = {"docs/report.png", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "SECURITY.md", "docs/design.md"}
    assert links >= {f"docs/{page.name}" for page in DOCS.glob("*.md")} | others


def test_the_readme_and_the_example_have_every_setting_of_the_program_with_its_default() -> None:
    from pexip_history.settings import oauth2_client as oauth2_settings
    from pexip_history.settings.environment import VARIABLES

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    names = {variable.name for variable in VARIABLES} | {
        oauth2_settings.ID,
        oauth2_settings.KEY_FILE,
        oauth2_settings.AUDIENCE,
    }
    names |= {f"{variable.name}_FILE" for variable in VARIABLES if variable.in_file}
    listed = set(re.findall(r"`([A-Z_]+)`", readme.partition("## Settings")[2].partition("## The files")[0]))
    assert listed - {"DEBUG", "INFO", "WARNING", "ERROR", "UTC"} == names
    assert set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)) == names
    defaults = {v.name: str(v.default) for v in VARIABLES if v.default not in (None, "", b"", ())}
    defaults = {name: text.lower() if text in ("True", "False") else text for name, text in defaults.items()}
    defaults["UMASK"] = "027"
    assert dict(re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)` \|", readme, re.MULTILINE)) == defaults
    assert dict(re.findall(r"^#([A-Z_]+)=(.+)$", example, re.MULTILINE)) == defaults


def test_the_numbers_in_the_design_are_those_of_the_code() -> None:
    from pexip_history.ledger import ledger
    from pexip_history.node import answers as records
    from pexip_history.node import api as node
    from pexip_history.node import connection
    from pexip_history.run import sweep

    design = " ".join((DOCS / "design.md").read_text(encoding="utf-8").split())
    for said in (
        f"At most {node.PACE} in {node.PERIOD:.0f} seconds",
        f"It may have {connection.MOST_BYTES / 1e6:.0f} MB",
        f"It may take {connection.LONGEST_ANSWER:.0f} seconds",
        f"A record has at most {records.MOST_FIELDS:,} fields",
        f"asks for {node.PAGE_SIZES[0]:,} records a page",
        f"is forgotten {ledger.KEPT.days} days after",
        f"the last {ledger.RUNS_KEPT:,} runs",
        f"without it {node.BUSY_WAIT:.0f} seconds",
        {3: "three times in all"}[sweep.SWEEPS],
        {4: "A run ends after four hours"}[node.LONGEST_RUN / 3600],
        {15: "differ by more than 15 minutes"}[node.CLOCKS_AGREE.total_seconds() / 60],
    ):
        assert said.lower() in design.lower(), said


def test_the_changelog_begins_with_the_version_that_runs() -> None:
    from pexip_history import __version__

    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+),", changes, re.MULTILINE)[0] == __version__


def test_the_services_of_several_nodes_are_hardened_as_compose_yaml_is() -> None:
    own = {"env_file", "volumes"}
    [usual] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"].values()
    [block] = blocks(DOCS / "several-management-nodes.md", "yaml")
    for service in yaml.safe_load(block.text)["services"].values():
        assert {k: v for k, v in service.items() if k not in own} == {k: v for k, v in usual.items() if k not in own}


def test_the_secret_in_compose_yaml_is_the_one_of_the_how_to() -> None:
    text = re.sub(r"^#(?! \S)", "", (ROOT / "compose.yaml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    whole = yaml.safe_load(text)
    [block] = blocks(DOCS / "docker-secrets.md", "yaml")
    shown = yaml.safe_load(block.text)
    assert whole["secrets"] == shown["secrets"]
    assert whole["services"]["collector"].items() >= shown["services"]["collector"].items()


@pytest.mark.parametrize(
    "page", ["several-management-nodes.md", "docker-secrets.md", "oauth2.md", "self-signed-certificates.md"]
)
def test_compose_takes_the_files(page: str, tmp_path: Path) -> None:
    needs("docker")
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("Docker Compose is not installed")
    shutil.copy(ROOT / "compose.yaml", tmp_path)
    for name in (".env", "oslo.env", "london.env"):
        (tmp_path / name).write_text("DEFAULT_MGR_ADDRESS=mgr.example.com\n")
    [block] = blocks(DOCS / page, "yaml")
    (tmp_path / block.file).write_text(block.text)
    files = ["-f", block.file] if block.file == "several.yaml" else []
    done = subprocess.run(
        ["docker", "compose", *files, "config", "--quiet"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def elsewhere(name: str) -> str:
    return next(b.text for b in blocks(DOCS / "other-schedulers.md") if b.file.endswith(name))


def test_kubernetes_takes_the_manifest() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    manifest = list(yaml.safe_load_all(elsewhere("pexip-history.yaml")))
    assert [part["kind"] for part in manifest] == ["PersistentVolumeClaim", "CronJob"]
    for part in manifest:
        validate.validate(part, "1.30", strict=True)


def test_swarm_takes_the_stack(tmp_path: Path) -> None:
    needs("docker")
    (tmp_path / "stack.yaml").write_text(elsewhere("stack.yaml"))
    done = subprocess.run(
        ["docker", "stack", "config", "-c", "stack.yaml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    needs("systemd-analyze")
    (tmp_path / "pexip-history.timer").write_text(elsewhere(".timer"))
    service = elsewhere(".service").replace("/usr/bin/docker", "/bin/true")  # it need not be on this machine
    (tmp_path / "pexip-history.service").write_text(re.sub("^Requires=.*\n", "", service, flags=re.MULTILINE))
    done = subprocess.run(["systemd-analyze", "verify", *tmp_path.iterdir()], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
