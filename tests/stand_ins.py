"""What the docs' commands call and a test cannot: docker, kubectl, systemctl and so on.

A container becomes collector.py as a process of this machine, with the environment and the mounts that
the command, or the Compose or Kubernetes file, gives it. What is not known here is refused, so that a
wrong word in the docs fails. The real Docker is for tests/image. Called by its links' names (test_docs.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "pexip-history-collector"
WITH_VALUE = {"-v", "-e", "--env-file", "--name", "--user", "--cap-drop", "--cap-add", "--restart"}
FLAGS = {"-d", "--rm", "--read-only"}
SANDBOX = Path(os.environ.get("SANDBOX", "/nowhere"))
CONTAINERS = SANDBOX / ".containers.json"


@dataclass
class Container:
    """What one would be started with: its environment, and where its mounts are here."""

    env: dict[str, str] = field(default_factory=dict)
    mounts: dict[str, str] = field(default_factory=dict)

    def mount(self, source: str, target: str) -> None:
        where = here(source)
        if not where.exists():
            where.mkdir(parents=True)  # as Docker does
        self.mounts[target] = str(where)

    def run(self, arguments: list[str]) -> int:
        env = {"PATH": os.environ["PATH"], "DATA_DIR": "/app/data"} | trusted() | self.env
        for name, value in env.items():
            for target, source in self.mounts.items():
                if value == target or value.startswith(f"{target}/"):
                    env[name] = source + value.removeprefix(target)
        if not arguments:  # it would schedule; whether it can is the same each time
            served = SANDBOX / f".scheduled-{zlib.crc32(repr(env).encode())}"
            if served.exists():
                return 0
            served.touch()
        program = [sys.executable, str(SANDBOX / "collector.py")]
        return subprocess.run([*program, *(arguments or ["crontab"])], env=env).returncode


def trusted() -> dict[str, str]:
    """How a container here knows the node, where the page is not about that."""
    return json.loads(os.environ.get("TRUSTED", "{}"))


def here(path: str) -> Path:
    """A path of the host: /etc and /srv are the sandbox's."""
    return SANDBOX / "root" / path[1:] if path.startswith(("/etc/", "/srv/")) else Path(path).absolute()


def refuse(words: list[str] | str) -> NoReturn:
    sys.exit(f"stand-in: not known here: {words}")


def env_file(path: str) -> dict[str, str]:
    lines = here(path).read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line.strip() and not line.startswith("#"))
    return {name: value for name, _, value in pairs if value}


def options(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The options before the first other word, and the rest."""
    found = []
    while words and words[0].startswith("-"):
        if words[0] in WITH_VALUE:
            found.append((words[0], words[1]))
            words = words[2:]
        elif words[0] in FLAGS:
            found.append((words[0], ""))
            words = words[1:]
        else:
            refuse(words)
    return found, words


def apply(container: Container, given: list[tuple[str, str]]) -> None:
    for option, value in given:
        if option == "-v":
            source, target = value.split(":")[:2]
            container.mount(source, target)
        elif option == "-e":
            name, _, text = value.partition("=")
            container.env[name] = text
        elif option == "--env-file":
            container.env = env_file(value) | container.env


def docker(words: list[str]) -> int:
    known: dict[str, Any] = json.loads(CONTAINERS.read_text()) if CONTAINERS.exists() else {}
    match words:
        case ["compose", *rest]:
            return compose(rest)
        case ["build", *rest]:
            given = [word for word in rest if word != "--pull"]
            return 0 if given == ["-t", IMAGE, "."] and Path("Dockerfile").exists() else refuse(words)
        case ["run", *rest]:
            given, command = options(rest)
            if command[:1] != [IMAGE]:
                refuse(words)
            container = Container()
            apply(container, given)
            for name in (value for option, value in given if option == "--name"):
                if name in known:
                    sys.exit(f"stand-in: the name {name} is in use")
                CONTAINERS.write_text(json.dumps(known | {name: asdict(container)}))
            return container.run(command[1:])
        case ["exec", name, "collector.py", *rest]:
            return Container(**known[name]).run(rest)
        case ["stop" | "start" | "logs", name] if name in known:
            return 0
        case ["rm", name]:
            del known[name]
            CONTAINERS.write_text(json.dumps(known))
            return 0
        case ["secret", "create", _, file] | ["stack", "deploy", "-c", file, _] if Path(file).exists():
            return 0
        case ["node", "update", "--label-add", _, _]:
            return 0
        case _:
            refuse(words)


def compose(words: list[str]) -> int:
    files = ["compose.yaml", "compose.override.yaml"]
    if words[0] == "-f":
        files, words = [words[1]], words[2:]
    given, words = ([], words) if words[0] != "run" else (options(words[1:])[0], ["run", *options(words[1:])[1]])
    match words:
        case ["run" | "exec", name, *rest]:
            container = service(files, name)
            apply(container, given)
            if words[0] == "exec":
                rest = rest[1:] if rest[:1] == ["collector.py"] else refuse(words)
            return container.run(rest)
        case ["up", "-d"]:
            return max(service(files, name).run([]) for name in services(files))
        case ["up"] if files == ["compose.demo.yaml"]:  # tests/image has it
            return 0 if services(files) else 1
        case ["build", "--pull"] | ["stop"] | ["start"] | ["down"] | ["ps"] | ["ls"]:
            return 0 if services(files) else 1
        case ["logs", "--tail", _, name]:
            return 0 if name in services(files) else 1
        case _:
            refuse(words)


def parsed(files: list[str]) -> list[dict[str, Any]]:
    """Those of the Compose files that are there."""
    import yaml

    return [yaml.safe_load(Path(file).read_text(encoding="utf-8")) for file in files if Path(file).exists()]


def services(files: list[str]) -> set[str]:
    return {name for document in parsed(files) for name in document["services"]}


def service(files: list[str], name: str) -> Container:
    """As all files together define it."""
    container = Container()
    documents = parsed(files)
    secrets = {key: value for document in documents for key, value in document.get("secrets", {}).items()}
    for definition in (document["services"][name] for document in documents if name in document["services"]):
        if file := definition.get("env_file"):
            container.env |= env_file(file)
        container.env |= definition.get("environment", {})
        for volume in definition.get("volumes", []):
            source, target = volume.split(":")[:2]
            container.mount(source, target)
        for secret in definition.get("secrets", []):
            container.mounts[f"/run/secrets/{secret}"] = str(here(secrets[secret]["file"]))
    return container


def kubectl(words: list[str]) -> int:
    import yaml

    applied = SANDBOX / ".applied.yaml"
    secret = SANDBOX / ".secret"
    match words:
        case ["create", "secret", "generic", _, source]:
            key, file = source.removeprefix("--from-file=").split("=")
            secret.mkdir()
            shutil.copy(file, secret / key)
        case ["apply", "-f", file]:
            shutil.copy(file, applied)
        case ["create", "job", _, source]:
            jobs = [d for d in yaml.safe_load_all(applied.read_text()) if d["kind"] == "CronJob"]
            [job] = [j for j in jobs if source == f"--from=cronjob/{j['metadata']['name']}"]
            pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
            [one] = pod["containers"]
            container = Container({pair["name"]: pair["value"] for pair in one["env"]})
            places = {v["name"]: secret if "secret" in v else SANDBOX / "claim" for v in pod["volumes"]}
            for mount in one["volumeMounts"]:
                container.mount(str(places[mount["name"]]), mount["mountPath"])
            return container.run(one["args"])
        case ["logs", _]:
            pass
        case _:
            refuse(words)
    return 0


def sudo(words: list[str]) -> int:
    if words[0] == "systemctl":
        return systemctl(words[1:])
    if words[0] != "install":
        refuse(words)
    mapped = [str(here(word)) if word.startswith("/") else word for word in words]
    for option in ("-o", "-g"):  # only root may
        if option in mapped:
            at = mapped.index(option)
            del mapped[at : at + 2]
    return subprocess.run(mapped).returncode


def systemctl(words: list[str]) -> int:
    units = [word for word in words if "." in word]
    if words[0] not in ("daemon-reload", "enable", "list-timers"):
        refuse(words)
    return 0 if all(here(f"/etc/systemd/system/{unit}").exists() for unit in units) else refuse(words)


def git(words: list[str]) -> int:
    """git; a pull has nowhere to pull from, and is refused where a tracked file was edited, as git may do."""
    if words == ["pull"]:
        return subprocess.run([_real("git"), "diff", "--exit-code", "--stat", "HEAD"]).returncode
    if words[0] not in ("clone", "checkout"):
        refuse(words)
    return subprocess.run([_real("git"), *words]).returncode


def make(words: list[str]) -> int:
    """Whether the repository's Makefile has these targets."""
    command = [_real("make"), "-C", str(ROOT), "-n", *words]
    return subprocess.run(command, stdout=subprocess.DEVNULL).returncode


def cp(words: list[str]) -> int:
    """cp; a user who copies .env.example then fills it in."""
    done = subprocess.run([_real("cp"), *words])
    if ".env.example" in words:
        filled = Path(words[-1])
        text = filled.read_text(encoding="utf-8")
        for name, value in json.loads(os.environ["FILLED_IN"]).items():
            text = re.sub(f"^{name}=$", lambda _, pair=f"{name}={value}": pair, text, flags=re.MULTILINE)
        filled.write_text(text, encoding="utf-8")
    return done.returncode


def python3(words: list[str]) -> int:
    """A virtual environment in which the packages are there already."""
    match words:
        case ["-m", "venv", folder]:
            bin_folder = Path(folder, "bin")
            bin_folder.mkdir(parents=True)
            known = " ".join(f"{name}='{value}'" for name, value in trusted().items())
            (bin_folder / "python").write_text(f'#!/bin/sh\nexec env {known} "{sys.executable}" "$@"\n')
            (bin_folder / "pip").write_text(
                '#!/bin/sh\ntest -e "$4" && test "$1 $2 $3" = "install --require-hashes -r"\n'
            )
            for file in bin_folder.iterdir():
                file.chmod(0o755)
            return 0
        case _:
            refuse(words)


def _real(program: str) -> str:
    _ours, _, path = os.environ["PATH"].partition(os.pathsep)
    return shutil.which(program, path=path) or refuse(program)


STAND_INS = {f.__name__: f for f in (docker, kubectl, sudo, systemctl, git, make, cp, python3)}

if __name__ == "__main__":
    sys.exit(STAND_INS[Path(sys.argv[0]).name](sys.argv[1:]))
