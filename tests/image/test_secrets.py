"""Passwords arrive byte for byte, and stand nowhere on the way."""

from __future__ import annotations

import json
import random
import re
import secrets
import string
from types import SimpleNamespace

import pytest

from .conftest import HARDENED, ROOT, Container, Engine, docker, until

MARK = f"S3cr{secrets.token_hex(6)}"
SEED = secrets.randbelow(10**6)
NASTY = {
    "percent": "100%% %s %(x)s",
    "dollar": "$HOME ${HOME} $$ $(id)",
    "quotes": "'single' \"double\" `id`",
    "quoted": "'as a whole'",
    "backslashes": "\\n \\\\ \\0 \\",
    "spaces": "  spaces at both ends  ",
    "hash": "#a #b # c",
    "utf8": "påß✓ 密码 🔑",
    "control": "\ttab\x01\x7f;&|<>!*?[]{}~=:,",
}


def fuzzed(number: int, alphabet: str) -> list[str]:
    rng = random.Random(SEED)
    return ["".join(rng.choices(alphabet, k=rng.randint(1, 40))) for _ in range(number)]


FUZZED = fuzzed(3, string.printable.replace("\r", "") + "æøåλ漢😀")
BY_E = {"linebreak": "two\nlines\n\nand\r\nmore", **NASTY, **{f"fuzzed_{n}": one for n, one in enumerate(FUZZED)}}
BY_FILE = {name: NASTY[name] for name in ("quotes", "spaces", "dollar")}
PASSWORDS = {f"e_{name}": one for name, one in BY_E.items()} | {f"file_{name}": one for name, one in BY_FILE.items()}


def marked(password: str) -> str:
    """With a word in the middle that can be searched for."""
    middle = len(password) // 2
    return password[:middle] + MARK + password[middle:]


def start(engine: Engine) -> dict[str, Container]:
    """Runs of cron's, whose settings came by -e or by --env-file."""
    containers = {}
    for name, password in PASSWORDS.items():
        account = {"DEFAULT_MGR_USERNAME": name, "DEFAULT_MGR_SECRET": marked(password), "DATA_LOG_LEVEL": "DEBUG"}
        settings = engine.settings(**account, DATA_CRON_TIME=engine.once())
        if name.startswith("e_"):
            containers[name] = engine.start(env=settings, flags=HARDENED if name == "e_quotes" else ())
        else:
            file = engine.folder / f"{name}.env"
            file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
            containers[name] = engine.start(flags=("--env-file", str(file)))
    return containers


@pytest.mark.parametrize("name", PASSWORDS)
def test_a_password_survives_cron_byte_for_byte_and_is_in_no_log_no_file_and_no_argument_list(
    engine: Engine, fleet: SimpleNamespace, name: str
) -> None:
    container = getattr(fleet, name)
    sent = until(lambda: engine.asked_by(name), 60, "a request")
    assert set(sent) == {marked(PASSWORDS[name])}, f"seed {SEED}"
    until(container.ran, 60, name)
    assert " /usr" not in docker("diff", container.id)
    search = "grep -rlaF -f - / --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr 2>/dev/null"
    assert container.exec("sh", "-c", search, stdin=MARK, check=False) == ""
    assert MARK not in engine.sh(f"cat $(find {container.data} -type f)")
    assert MARK not in container.logs
    assert MARK not in container.exec("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/stat || :")


def test_no_layer_holds_a_password(engine: Engine) -> None:
    assert MARK not in docker("history", "--no-trunc", engine.image)


@pytest.mark.parametrize("owner", ["0:0", "1000:1000"])
def test_a_docker_secret_that_root_or_the_owner_alone_may_read_is_read(engine: Engine, owner: str) -> None:
    """Not text even: invalid UTF-8. One line end at the end is the editor's."""
    password = b"\xff \xfe" + MARK.encode() + b"\r\n\xe6 '\"$"
    file, user = engine.file(password + b"\n", owner), f"user-{secrets.token_hex(4)}"
    container = engine.start(
        env=engine.settings(
            DEFAULT_MGR_USERNAME=user,
            DEFAULT_MGR_SECRET=None,
            DEFAULT_MGR_SECRET_FILE="/run/secrets/mgr_secret",
            DATA_CRON_TIME="0 0 29 2 *",
            DATA_RUN_ON_START="true",
        ),
        flags=(*HARDENED, "-v", f"{file}:/run/secrets/mgr_secret:ro"),
    )
    until(lambda: container.ran() or not container.state["Running"], 60, "a run")
    assert container.state["Running"], container.logs
    assert {text.encode(errors="surrogateescape") for text in engine.asked_by(user)} == {password}
    container.stop()


def test_an_empty_secret_of_roots_is_said_to_be_empty(engine: Engine) -> None:
    settings = engine.settings(DEFAULT_MGR_SECRET=None, DEFAULT_MGR_SECRET_FILE="/run/secrets/mgr_secret")
    flags = (*HARDENED, "-v", f"{engine.file('')}:/run/secrets/mgr_secret:ro")
    code, logs = engine.run("collect", env=settings, flags=flags)
    assert code == 2
    assert "DEFAULT_MGR_SECRET_FILE: '/run/secrets/mgr_secret' is empty" in logs


WATCH = """
import os, signal, sys
seen, enough = set(), []
signal.signal(signal.SIGTERM, lambda *_: enough.append(True))
print("watching", flush=True)
while not enough:
    for process in os.listdir("/proc"):
        for name in ("environ", "root/secrets/mgr_secret", "fd/3", "fd/4", "fd/5"):
            try:
                if process.isdigit() and sys.argv[1].encode() in open(f"/proc/{process}/{name}", "rb").read(1 << 20):
                    seen.add((name, open(f"/proc/{process}/cmdline", "rb").read()))
            except OSError:
                pass
print("seen", seen, flush=True)
"""


def watch(engine: Engine) -> Container:
    """User 1007 on the host looks for the mark in every process that it may look into."""
    watcher = engine.start("-c", WATCH, MARK, flags=("--pid", "host", "--user", "1007:1007", "--entrypoint", "python3"))
    until(lambda: "watching" in watcher.logs, 60, "the watcher")
    return watcher


def saw_nothing(watcher: Container) -> bool:
    watcher.stop()
    return watcher.logs.splitlines()[-1] == "seen set()"


@pytest.mark.parametrize("way", ["environment", "file"])
def test_the_data_folders_owner_on_the_host_sees_no_password_from_the_start_to_the_stop(
    engine: Engine, way: str
) -> None:
    """He may look into every process of his user id, and the engine's processes are the host's."""
    data, watcher = engine.data("1007:1007", "700"), watch(engine)
    if way == "environment":
        container = engine.busy(data=data, DEFAULT_MGR_SECRET=MARK)
    else:
        file = {"DEFAULT_MGR_SECRET": None, "DEFAULT_MGR_SECRET_FILE": "/secrets/mgr_secret"}
        container = engine.busy((*HARDENED, "-v", f"{engine.file(MARK)}:/secrets/mgr_secret:ro"), data, **file)
    run = engine.sh(f"cat {data}/.collector/lock").strip()
    assert "collector.py" in container.exec("sh", "-c", f"tr '\\0' ' ' </proc/{run}/cmdline")
    assert MARK not in container.exec("sh", "-c", "cat /proc/[0-9]*/cmdline || :")
    for process in ("1", container.exec("cat", "/run/crond.pid").strip(), run):
        assert "Permission denied" in container.exec("cat", f"/proc/{process}/environ", user="4321", check=False)
    if way == "file":  # what docker exec starts gets the container's environment, by its nature
        for name in ("environ", "mem", "maps"):
            assert "Permission denied" in container.exec("cat", f"/proc/{run}/{name}", user="1007", check=False)
        for user in ("1007:1007", "0"):
            assert MARK not in container.exec("sh", "-c", "cat /proc/[0-9]*/environ", user=user, check=False)
    container.stop()
    assert saw_nothing(watcher)


def documented_unit() -> tuple[str, ...]:
    """The words of the systemd page's docker run, but for its mounts, settings and image."""
    page = (ROOT / "docs" / "other-schedulers.md").read_text(encoding="utf-8")
    [line] = re.findall("^ExecStart=/usr/bin/docker run (.*) pexip-history-collector collect$", page, re.M)
    words = re.sub(r"--rm |(-v|--env-file) \S+", "", line).split()
    assert "--user" not in words
    return tuple(words)


def test_the_documented_unit_collects_with_files_of_roots_and_its_folders_owner_sees_no_password(
    engine: Engine,
) -> None:
    """docs/other-schedulers.md and docs/self-signed-certificates.md followed together: the folder is root's alone."""
    data, folder, ca = engine.data("1007:1007", "700"), engine.data("0:0", "700"), engine.node.ca_file.read_text()
    engine.sh(f"umask 277; printf %s '{MARK}' >{folder}/mgr_secret; printf %s '{ca}' >{folder}/ca.pem")
    watcher = watch(engine)
    files = {"DEFAULT_MGR_SECRET_FILE": "/secrets/mgr_secret", "DEFAULT_MGR_CA_FILE": "/secrets/ca.pem"}
    for _ in range(3):
        user = f"unit-{secrets.token_hex(4)}"
        settings = engine.settings(
            **files, DEFAULT_MGR_USERNAME=user, DEFAULT_MGR_SECRET=None, DEFAULT_MGR_TLS_FINGERPRINT=None
        )
        flags = (*documented_unit(), "-v", f"{folder}:/secrets:ro")
        _, logs = engine.run("collect", env=settings, data=data, flags=flags)
        assert set(engine.asked_by(user)) == {MARK}, logs
    assert saw_nothing(watcher)


def test_an_unquoted_password_reads_the_same_in_compose_and_in_docker_run(engine: Engine) -> None:
    """.env.example's advice: no $, no space before #, none at the ends, no quote or # in front."""
    plain = [
        word
        for word in fuzzed(400, string.ascii_letters + string.punctuation + " æλ漢")
        if not ("$" in word or " #" in word or word != word.strip() or word[0] in "'\"`#")
    ]
    assert len(plain) > 100
    folder = engine.folder / "plain"
    folder.mkdir()
    (folder / ".env").write_text("".join(f"P{n}={word}\n" for n, word in enumerate(plain)))
    (folder / "compose.yaml").write_text("services: {one: {image: none, env_file: .env}}")
    read = json.loads(docker("compose", "--project-directory", str(folder), "config", "--format", "json"))
    by_compose = {k: v.replace("$$", "$") for k, v in read["services"]["one"]["environment"].items()}
    words = ("run", "--rm", "--env-file", str(folder / ".env"), "--entrypoint", "python3", engine.image)
    by_docker = json.loads(docker(*words, "-c", "import os, json; print(json.dumps(dict(os.environ)))"))
    expected = {f"P{n}": word for n, word in enumerate(plain)}
    assert by_compose == expected, f"seed {SEED}"
    assert {name: by_docker[name] for name in expected} == expected, f"seed {SEED}"
