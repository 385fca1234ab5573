"""What a repository needs besides the program: workflows that can run, a licence, words that everyone knows."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(p for p in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if p.name != "config.yml")
KINDS = ("*.md", "*.py", "*.sh", "*.yml", "*.yaml", "Makefile", "Dockerfile", ".env.example")
PLACES = (ROOT, *(ROOT / name for name in (".github", "docs", "pexip_history", "tests")))
TEXTS = sorted(
    {
        path
        for place in PLACES
        for kind in KINDS
        for path in (place.glob(kind) if place == ROOT else place.rglob(kind))
        if path.name != Path(__file__).name
    }
)
ODD = re.compile(
    r"(?<![a-z])(mend(s|ed|ing)?|forbear\w*|spelt|who(m|so)?ever|sound disk|make room|(is|are) wanted|of old|anew"
    r"|ways on|be that (an?|in)|makes? up for|made up for|for ever|its kin|whence|thence|thereof|hence|naught|aught)"
    r"(?![a-z])",
    re.IGNORECASE,
)


def commands(workflow: Path) -> list[str]:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values()
    return [step["run"] for job in jobs for step in job.get("steps", []) if "run" in step]


def make(*words: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "--silent", *words], cwd=cwd, env=env, capture_output=True, encoding="utf-8")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_make_targets_that_exist(workflow: Path) -> None:
    called = [target for text in commands(workflow) for target in re.findall(r"\bmake (?:--silent )?([a-z-]+)", text)]
    assert called
    for target in called:
        assert make("-n", target).returncode == 0, target


def test_the_checks_are_those_of_the_projects_own_run_on_every_python_that_it_supports() -> None:
    checks = ROOT / ".github" / "workflows" / "checks.yml"
    own = set(re.findall(r"^make ([a-z-]+)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE))
    assert own <= {text.removeprefix("make ") for text in commands(checks)}
    versions = yaml.safe_load(checks.read_text(encoding="utf-8"))["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_commit_and_says_which_version_that_is(workflow: Path) -> None:
    for line in re.findall(r"uses: (.+)$", workflow.read_text(encoding="utf-8"), re.MULTILINE):
        assert line.startswith("./") or re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line), line


def test_the_release_notes_are_the_section_of_the_version() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\S+), [^\n]*\n(.*?)(?=^## |\Z)", changes, re.MULTILINE | re.DOTALL))
    assert sections
    for version, text in sections.items():
        assert make("release-notes", f"VERSION={version}").stdout.strip() == text.strip()
    assert make("release-notes").stdout.strip() == next(iter(sections.values())).strip()


@pytest.mark.parametrize("version", ["0.0.9", "1", "1.0", '$(touch came)"; touch came; `touch came`'])
def test_a_version_without_a_section_makes_no_release_and_is_no_command(version: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    shutil.copy(ROOT / "Makefile", tmp_path)
    path = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    done = make("release-notes", cwd=tmp_path, env=path | {"VERSION": version})
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert f"no section on {version}" in done.stderr
    assert not (tmp_path / "came").exists()


def test_the_hook_runs_lint_before_a_commit_and_replaces_no_hook_of_yours(tmp_path: Path) -> None:
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "--allow-empty", "-m", "x")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    shutil.copy(ROOT / "Makefile", tmp_path)
    assert make("hook", cwd=tmp_path).returncode == 0
    (tmp_path / "Makefile").write_text("lint:\n\techo linted >&2; exit 1\n")
    refused = subprocess.run(git, cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode
    assert "linted" in refused.stderr
    shutil.copy(ROOT / "Makefile", tmp_path)
    assert "is there already" in make("hook", cwd=tmp_path).stderr


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_a_form_says_what_must_not_be_posted(form: Path) -> None:
    fields = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(fields)
    [first, *_] = [part["attributes"]["value"] for part in fields["body"] if part["type"] == "markdown"]
    lacking = [word for word in ("public", "password", "rows", "names", "addresses") if word not in first]
    assert lacking == []
    for link in re.findall(r"\]\(\.\./blob/main/([^)]+)\)", first):
        assert (ROOT / link).exists(), link


def test_there_is_a_licence_and_a_private_way_to_report() -> None:
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")
    security = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "Report it privately" in security
    for link in re.findall(r"\]\(([^)]+)\)", security):
        assert (ROOT / link).exists(), link


def odd_words(path: Path) -> list[tuple[int, str]]:
    """Line and word."""
    text = path.read_text(encoding="utf-8")
    return [(text[: odd.start()].count("\n") + 1, odd[0]) for odd in ODD.finditer(text)]


def test_no_file_has_a_word_that_an_administrator_does_not_know() -> None:
    found = {str(path.relative_to(ROOT)): words for path in TEXTS if (words := odd_words(path))}
    assert found == {}
