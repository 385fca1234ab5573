"""Passwords arrive byte for byte, and stand nowhere on the way."""

from __future__ import annotations

import json
import random
import re
import secrets
import string
from types import SimpleNamespace

import pytest

from tests.management_node import faults

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
BROKEN = {"linebreak": "two\nlines\n\nand\r\nmore", **NASTY}


def fuzzed(number: int, alphabet: str) -> list[str]:
    rng = random.Random(SEED)
    return ["".join(rng.choices(alphabet, k=rng.randint(1, 40))) for _ in range(number)]


FUZZED = dict(
    zip(
        ("fuzzed_1", "fuzzed_2", "fuzzed_3"),
        fuzzed(3, string.printable.replace("\r", "") + "æøåλ漢😀"),
        strict=True,
    )
)


def marked(password: str) -> str:
    """With a word in the middle that can be searched for."""
    middle = len(password) // 2
    return password[:middle] + MARK + password[middle:]


def start(engine: Engine) -> dict[str, Container]:
    containers = {}
    for name, password in {**BROKEN, **FUZZED}.items():
        settings = engine.settings(
            DEFAULT_MGR_USERNAME=f"e-{name}", DEFAULT_MGR_SECRET=marked(password), DATA_CRON_TIME=engine.once()
        )
        containers[f"e_{name}"] = engine.start(env=settings, flags=HARDENED if name == "quotes" else ())
    for name in ("quotes", "spaces", "dollar"):
        file = engine.folder / f"{name}.env"
        settings = engine.settings(
            DEFAULT_MGR_USERNAME=f"file-{name}",
            DATA_CRON_TIME=engine.once(),
            DEFAULT_MGR_SECRET=marked(NASTY[name]),
            DATA_LOG_LEVEL="DEBUG",
        )
        file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        containers[f"file_{name}"] = engine.start(flags=("--env-file", str(file)))
    return containers


@pytest.mark.parametrize("name", [*BROKEN, *FUZZED])
def test_a_password_of_e_survives_cron_byte_for_byte(engine: Engine, fleet: SimpleNamespace, name: str) -> None:
    expected = marked({**BROKEN, **FUZZED}[name])
    sent = until(lambda: engine.asked_by(f"e-{name}"), 60, "a request")
    assert set(sent) == {expected}, f"seed {SEED}"


@pytest.mark.parametrize("name", ["quotes", "spaces", "dollar"])
def test_a_password_of_env_file_survives_cron_as_it_stands_there(
    engine: Engine, fleet: SimpleNamespace, name: str
) -> None:
    sent = until(lambda: engine.asked_by(f"file-{name}"), 60, "a request")
    assert set(sent) == {marked(NASTY[name])}


@pytest.mark.parametrize("owner", ["0:0", "1000:1000"])
def test_a_docker_secret_that_root_or_the_owner_alone_may_read_is_read(engine: Engine, owner: str) -> None:
    """Not text even: invalid UTF-8. One line end at the end is the editor's."""
    password = b"\xff \xfe" + MARK.encode() + b"\r\n\xe6 '\"$"
    file = engine.folder / secrets.token_hex(4)
    file.write_bytes(password + b"\n")
    engine.sh(f"chown {owner} {file} && chmod 600 {file}")
    user = f"secret-{file.name}"
    settings = engine.settings(
        DEFAULT_MGR_USERNAME=user,
        DEFAULT_MGR_SECRET=None,
        DEFAULT_MGR_SECRET_FILE="/run/secrets/mgr_secret",
        DATA_CRON_TIME="0 0 29 2 *",
        DATA_RUN_ON_START="true",
    )
    flags = (*HARDENED, "-v", f"{file}:/run/secrets/mgr_secret:ro")
    container = engine.start(env=settings, flags=flags)
    until(lambda: container.ran() or not container.state["Running"], 60, "a run")
    assert container.state["Running"], container.logs
    assert {text.encode(errors="surrogateescape") for text in engine.asked_by(user)} == {password}
    container.stop()


def test_an_empty_secret_of_roots_is_said_to_be_empty(engine: Engine) -> None:
    file = engine.folder / secrets.token_hex(4)
    engine.sh(f"umask 077; : >{file}")
    settings = engine.settings(DEFAULT_MGR_SECRET=None, DEFAULT_MGR_SECRET_FILE="/run/secrets/mgr_secret")
    code, logs = engine.run("collect", env=settings, flags=(*HARDENED, "-v", f"{file}:/run/secrets/mgr_secret:ro"))
    assert code == 2
    assert "DEFAULT_MGR_SECRET_FILE: '/run/secrets/mgr_secret' is empty" in logs


WATCH = """
import os, signal, sys
mark, seen, enough = sys.argv[1].encode(), set(), []
signal.signal(signal.SIGTERM, lambda *_: enough.append(True))
print("watching", flush=True)
while not enough:
    for process in os.listdir("/proc"):
        try:
            if process.isdigit() and mark in open(f"/proc/{process}/environ", "rb").read():
                seen.add(open(f"/proc/{process}/cmdline", "rb").read())
        except OSError:
            pass
print("seen", seen, flush=True)
"""


@pytest.mark.parametrize(("flags", "way"), [((), "environment"), (HARDENED, "file")], ids=["plain", "hardened"])
def test_the_data_folders_owner_on_the_host_sees_no_password_from_the_start_to_the_stop(
    engine: Engine, flags: tuple[str, ...], way: str
) -> None:
    """He may look into every process of his user id, and the engine's processes are the host's."""
    user, data = f"owned-{secrets.token_hex(4)}", engine.data("1007:1007", "700")
    engine.node.faults.add(faults.hang(20), when=lambda request: _is(request, user), times=None)
    settings = engine.settings(DEFAULT_MGR_USERNAME=user, DATA_CRON_TIME="0 0 29 2 *", DATA_RUN_ON_START="true")
    settings |= {"DEFAULT_MGR_SECRET": marked("watched")}
    if way == "file":
        file = engine.folder / secrets.token_hex(4)
        file.write_text(settings.pop("DEFAULT_MGR_SECRET"))
        engine.sh(f"chown 0:0 {file} && chmod 600 {file}")
        settings |= {"DEFAULT_MGR_SECRET_FILE": "/run/secrets/mgr_secret"}
        flags = (*flags, "-v", f"{file}:/run/secrets/mgr_secret:ro")
    watcher = engine.start("-c", WATCH, MARK, flags=("--pid", "host", "--user", "1007:1007", "--entrypoint", "python3"))
    until(lambda: "watching" in watcher.logs, 60, "the watcher")
    container = engine.start(env=settings, data=data, flags=flags)
    until(lambda: engine.asked_by(user) or not container.state["Running"], 60, "a request")
    if way == "file":  # what docker exec starts gets the container's environment, by its nature
        run = engine.sh(f"cat {data}/.collector/lock").strip()
        for name in ("environ", "mem", "maps"):
            assert "Permission denied" in container.exec("cat", f"/proc/{run}/{name}", user="1007", check=False)
        assert MARK not in container.exec("sh", "-c", "cat /proc/[0-9]*/environ", user="1007:1007", check=False)
        assert MARK not in container.exec("sh", "-c", "cat /proc/[0-9]*/environ", user="0", check=False)
    container.stop()
    watcher.stop()
    said = watcher.logs.splitlines()[-1]
    assert said == "seen set()"


def documented_unit() -> tuple[str, ...]:
    """The words of the systemd page's docker run, but for its mounts, settings and image."""
    page = (ROOT / "docs" / "other-schedulers.md").read_text(encoding="utf-8")
    [line] = re.findall("^ExecStart=/usr/bin/docker run (.*) pexip-history-collector collect$", page, re.M)
    words = re.sub(r"--rm |(-v|--env-file) \S+", "", line).split()
    assert "--user" not in words
    return tuple(words)


WATCH_FILE = """
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


def test_the_data_folders_owner_sees_no_password_of_the_documented_systemd_unit(engine: Engine) -> None:
    data, folder = engine.data("1007:1007", "700"), engine.folder / secrets.token_hex(4)
    engine.sh(f"mkdir -m 700 {folder}; umask 277; printf %s '{MARK}' >{folder}/mgr_secret")
    watcher = engine.start(
        "-c", WATCH_FILE, MARK, flags=("--pid", "host", "--user", "1007:1007", "--entrypoint", "python3")
    )
    until(lambda: "watching" in watcher.logs, 60, "the watcher")
    for _ in range(3):
        user = f"unit-{secrets.token_hex(4)}"
        settings = engine.settings(
            DEFAULT_MGR_USERNAME=user, DEFAULT_MGR_SECRET=None, DEFAULT_MGR_SECRET_FILE="/secrets/mgr_secret"
        )
        flags = (*documented_unit(), "-v", f"{folder}:/secrets:ro")
        _, logs = engine.run("collect", env=settings, data=data, flags=flags)
        assert set(engine.asked_by(user)) == {MARK}, logs
    watcher.stop()
    assert watcher.logs.splitlines()[-1] == "seen set()"


def test_the_documented_unit_collects_with_a_ca_file_beside_the_password(engine: Engine) -> None:
    """docs/other-schedulers.md and docs/self-signed-certificates.md followed together: the folder is root's alone."""
    folder = engine.folder / secrets.token_hex(4)
    ca = engine.node.ca_file.read_text()
    engine.sh(f"mkdir -m 700 {folder}; printf %s '{MARK}' >{folder}/mgr_secret; printf %s '{ca}' >{folder}/ca.pem")
    user = f"unit-{secrets.token_hex(4)}"
    settings = engine.settings(
        DEFAULT_MGR_USERNAME=user,
        DEFAULT_MGR_SECRET=None,
        DEFAULT_MGR_SECRET_FILE="/secrets/mgr_secret",
        DEFAULT_MGR_CA_FILE="/secrets/ca.pem",
        DEFAULT_MGR_TLS_FINGERPRINT=None,
    )
    flags = (*documented_unit(), "-v", f"{folder}:/secrets:ro")
    _, logs = engine.run("collect", env=settings, data=engine.data("1007:1007", "700"), flags=flags)
    assert set(engine.asked_by(user)) == {MARK}, logs


def test_a_secret_in_sight_of_the_containers_user_is_refused(engine: Engine) -> None:
    data = engine.data("1007:1007", "700")
    code, logs = engine.run("collect", env=engine.settings(), data=data, flags=("--user", "1007:1007"))
    assert code == 2
    assert "DEFAULT_MGR_SECRET is in the environment of a container that was started as user 1007" in logs
    assert engine.files(data) == {}


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


def test_no_file_holds_a_password(engine: Engine, fleet: SimpleNamespace) -> None:
    for name, container in vars(fleet).items():
        if name.startswith(("e_", "file_")):
            until(container.ran, 60, name)
            assert " /usr" not in docker("diff", container.id)
            search = "grep -rlaF -f - / --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr 2>/dev/null"
            found = container.exec("sh", "-c", search, stdin=MARK, check=False)
            assert found == "", f"{name}: {found}"
            assert container.data
            assert MARK not in engine.sh(f"cat $(find {container.data} -type f)")


def test_no_log_argument_list_or_layer_holds_a_password(engine: Engine, fleet: SimpleNamespace) -> None:
    assert MARK not in docker("history", "--no-trunc", engine.image)
    for name, container in vars(fleet).items():
        if name.startswith(("e_", "file_")):
            assert MARK not in container.logs
            assert MARK not in container.exec("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/stat")


def test_the_argument_list_of_a_run_does_not_hold_the_password(engine: Engine) -> None:
    user = f"watched-{secrets.token_hex(4)}"
    engine.node.faults.add(faults.hang(20), when=lambda request: _is(request, user), times=None)
    settings = engine.settings(
        DEFAULT_MGR_USERNAME=user,
        DEFAULT_MGR_SECRET=marked("watched"),
        DATA_CRON_TIME="0 0 29 2 *",
        DATA_RUN_ON_START="true",
    )
    container = engine.start(env=settings)
    until(lambda: engine.asked_by(user), 60, "a request")
    running = container.exec("sh", "-c", "tr '\\0' ' ' </proc/$(cat /app/data/.collector/lock)/cmdline")
    assert "collector.py" in running
    assert MARK not in container.exec("sh", "-c", "cat /proc/[0-9]*/cmdline")
    # Nor may any other user of the container see what the processes were given.
    run = container.exec("cat", "/app/data/.collector/lock").strip()
    for process in ("1", container.exec("cat", "/run/crond.pid").strip(), run):
        refused = container.exec("cat", f"/proc/{process}/environ", user="4321", check=False)
        assert "Permission denied" in refused
        assert MARK not in refused
    container.stop()


def _is(request: object, user: str) -> bool:
    import base64

    given = request.headers.get("Authorization", "Basic ")  # type: ignore[attr-defined]
    return base64.b64decode(given.split(" ")[1]).startswith(f"{user}:".encode())
