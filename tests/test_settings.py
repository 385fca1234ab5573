"""Settings: what is forgiven, what is refused and in which words, and what reaches node and cron."""

from __future__ import annotations

import base64
import os
import re
import ssl
import string
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from pexip_history.errors import SettingsError
from pexip_history.operate import crontab as operate
from pexip_history.operate import notify
from pexip_history.settings.environment import NAMES, VARIABLES, Settings, read_settings, unknown_variables
from pexip_history.settings.files import read_key
from pexip_history.settings.schedule import Schedule
from tests.harness import COLLECTOR, ROOT, Site
from tests.management_node import ManagementNode, certificates

LEAST = {"DEFAULT_MGR_ADDRESS": "mgr.example.com", "DEFAULT_MGR_SECRET": "sesame"}


def settings(**environ: str) -> Settings:
    return read_settings({**LEAST, **environ})


def problems(environ: dict[str, str], **needed: bool) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read_settings(environ, **needed)
    return list(caught.value.problems)


# What is wrong, one at a time: of each variable words of the fix, and values.
FLAG, NUMBER, USER, CRON = "neither true nor false", "is not a number", "is not a user or group ID", "DATA_CRON_TIME"
FIXES: list[tuple[str, str, tuple[str, ...]]] = [
    ("DEFAULT_MGR_ADDRESS", "is missing; give the Management Node's name or IP address", ("",)),
    ("DEFAULT_MGR_ADDRESS", "plain HTTP; give the name alone", ("http://mgr", "HTTP://mgr")),
    ("DEFAULT_MGR_ADDRESS", "give the name alone", ("ftp://mgr", "https://mgr/admin", "mgr?x=1", "admin@mgr")),
    ("DEFAULT_MGR_ADDRESS", "give one such as mgr.example.com", ("mgr example", "mgr\nevil", "-mgr", "[mgr]")),
    ("DEFAULT_MGR_ADDRESS", "give one from 1 to 65535", ("mgr:0", "mgr:65536", "mgr:https", "mgr:", "mgr:\uff18")),
    ("DEFAULT_MGR_USERNAME", "a colon", ("kari:nordmann",)),
    ("DEFAULT_MGR_SECRET", "is missing; give the password here or a file in DEFAULT_MGR_SECRET_FILE", ("",)),
    ("DEFAULT_MGR_CA_FILE", "give a file that the container can read", ("/nowhere/ca.pem",)),
    ("DEFAULT_MGR_CA_FILE", "holds no certificate; give a PEM file", (str(COLLECTOR),)),
    ("DEFAULT_MGR_TLS_FINGERPRINT", "give its 64 hexadecimal digits", ("AB:CD", "g" * 64)),
    ("DEFAULT_MGR_TLS_VERIFY", FLAG, ("perhaps",)),
    ("DEFAULT_CONF_LIMIT", NUMBER, ("many", "-1")),
    ("DEFAULT_PART_LIMIT", NUMBER, ("1.5", "1" * 30)),
    ("DATA_RUN_ON_START", FLAG, ("2",)),
    ("DATA_CSV_BOM", FLAG, ("utf-8",)),
    ("DATA_CSV_ESCAPE_FORMULAS", FLAG, ("nope",)),
    ("DATA_MEDIA_STREAMS", FLAG, ("all",)),
    ("DATA_KEEP_DAYS", NUMBER, ("-7",)),
    ("DATA_KEEP_DAYS", "give ", ("36501",)),
    ("DATA_SINCE", "give ", ("yesterday", "1850-01-01", "3000-01-01")),
    ("DATA_LOG_LEVEL", "none of DEBUG, INFO, WARNING, ERROR", ("chatty",)),
    ("DATA_LICENSES", "port=", ("port", "=5", "port=-1", "port=1 PORT=2", "port=1234567890")),
    ("PUID", USER, ("kari", "4294967295", "4294967296", "00", "01", "-1", "+5")),
    ("PGID", USER, ("-5", "4294967295")),
    ("DATA_DIR", "is not an absolute path", ("data", "..", "/srv/calls/../other", "/app/../etc")),
    ("DATA_DIR", "is a folder of the system", ("/", "//", "/etc", "//etc", "/app", "/run/x", "/usr/local/bin")),
    (
        "DATA_DIR",
        "is a folder of the system",
        ("/app/pexip_history", "/dev", "/dev/shm", "/dev/pts/0", "/home", "/tmp"),
    ),
    (
        "DATA_DIR",
        "is a folder of the system",
        ("/media", "/mnt", "/opt", "/root", "/srv", "/var", "/var/lib", "/var/tmp"),
    ),
    (
        "DATA_DIR",
        "is a folder of the system",
        ("/bin", "/boot/x", "/lib", "/lib64", "/proc/1", "/sbin", "/sys", "/usr"),
    ),
    ("UMASK", "octal", ("999", "777", "277", "0700", "27")),
    ("TZ", "give one such as Europe/Oslo", ("Middle/Earth", "../../etc/passwd")),
    # what Debian's cron would not run, with its field
    (CRON, "is not five fields", ("* * * *", "0 0 * * * root", "daily", "0 0 * * *\n* * * * * evil")),
    (CRON, "", ("@reboot", "@noon")),
    (CRON, "field minute ", tuple(f"{minute} * * * *" for minute in ("60", "*/0", "5-1", "1,,2", "5/15", "?", "*/60"))),
    (CRON, "field hour ", ("* 24 * * *", "* +1 * * *", "* 1.5 * * *", "* */24 * * *")),
    (CRON, "field day-of-month ", tuple(f"0 0 {day} * *" for day in ("0", "32", "L", "LW", "15W", "*/32"))),
    (CRON, "field day-of-month ", ("0 0 31 2 *",)),
    (CRON, "field month ", ("0 0 * 13 *", "0 0 * 0 *", "0 0 * feb-jan *", "0 0 * */13 *")),
    (
        CRON,
        "field day-of-week ",
        tuple(f"0 0 * * {day}" for day in ("8", "5L", "1#2", "sunday", "fri-sun", ";x", "*/8")),
    ),
]
WRONG = [(name, value, fix) for name, fix, values in FIXES for value in values]


@pytest.mark.parametrize(("name", "value", "fix"), WRONG)
def test_a_wrong_setting_is_named_with_its_fix(name: str, value: str, fix: str) -> None:
    (problem,) = problems({**LEAST, name: value})
    assert problem.startswith(f"{name}: ")
    assert fix in problem
    assert "\n" not in problem
    assert not value or repr(value).lower() in problem.lower() or name == "DEFAULT_MGR_USERNAME"


def test_all_problems_are_reported_together_and_nothing_is_tried(tmp_path: Path) -> None:
    wrong = {name: value for name, value, _ in WRONG if value and name != "DATA_DIR"}
    path = {"PATH": os.environ["PATH"]}
    for command in ("collect", "check", "crontab"):
        done = subprocess.run(
            [sys.executable, str(COLLECTOR), command],
            env={**path, **wrong, "DATA_DIR": str(tmp_path / "data"), "DEFAULT_MGR_SECRET_FILE": "/nowhere"},
            capture_output=True,
            encoding="utf-8",
        )
        named = [line.partition(":")[0] for line in done.stderr.splitlines()]
        assert done.returncode == 2
        assert sorted(named) == sorted([*wrong, "DEFAULT_MGR_SECRET_FILE"]), "each once, a line each"
        assert done.stdout == ""
        assert not (tmp_path / "data").exists()


def test_without_a_setting_the_three_required_ones_are_named_to_who_schedules() -> None:
    found = problems({}, node=True, schedule=True)
    assert [line.partition(": is missing")[0] for line in found] == [
        "DEFAULT_MGR_ADDRESS",
        "DEFAULT_MGR_SECRET",
        "DATA_CRON_TIME",
    ]


CLIENT = ("DEFAULT_MGR_CLIENT_ID", "DEFAULT_MGR_CLIENT_KEY_FILE", "DEFAULT_MGR_TOKEN_AUDIENCE")
WHOLE = dict(zip(CLIENT, ("client", "key.pem", "mgr.internal"), strict=True))
NOT_BOTH = "an OAuth2 client has no user name and no password; remove {}, or, to log in with the password, {}"
TOGETHER: list[tuple[dict[str, str], list[str]]] = [
    (
        LEAST | {"DEFAULT_MGR_SECRET_FILE": "key.pem"},
        ["DEFAULT_MGR_SECRET_FILE: DEFAULT_MGR_SECRET is set too; remove one of the two"],
    ),
    (
        LEAST
        | {"DEFAULT_MGR_TLS_VERIFY": "false", "DEFAULT_MGR_CA_FILE": "ca.pem"}
        | {"DEFAULT_MGR_TLS_FINGERPRINT": "ab" * 32},
        [f"DEFAULT_MGR_{name}: .*DEFAULT_MGR_TLS_VERIFY=false.*" for name in ("CA_FILE", "TLS_FINGERPRINT")],
    ),
    *[
        (WHOLE | {name: "key.pem"}, [f"{CLIENT[0]}: {NOT_BOTH.format(name, ' and '.join(CLIENT))}"])
        for name in ("DEFAULT_MGR_USERNAME", "DEFAULT_MGR_SECRET", "DEFAULT_MGR_SECRET_FILE")
    ],
    (
        {"DEFAULT_MGR_SECRET": "x", CLIENT[2]: "mgr"},
        [f"{CLIENT[2]}: {NOT_BOTH.format('DEFAULT_MGR_SECRET', CLIENT[2])}"],
    ),
    (
        {CLIENT[0]: "client"},
        [f"{CLIENT[1]}: is missing, and {CLIENT[0]} is set; give the file that holds the client's private key"],
    ),
    (
        {CLIENT[1]: "key.pem"},
        [f"{CLIENT[0]}: is missing, and {CLIENT[1]} is set; give the id that the node shows beside the client"],
    ),
    (WHOLE | {CLIENT[0]: "two words"}, [f"{CLIENT[0]}: 'two words' is not a client id.*"]),
    (WHOLE | {CLIENT[1]: "/nowhere/k"}, [f"{CLIENT[1]}: '/nowhere/k' cannot be read .No such file or directory.; .*"]),
    (WHOLE | {CLIENT[1]: f"/{'x' * 1000}"}, [f"{CLIENT[1]}: is not a file's name .*"]),
    (WHOLE | {CLIENT[1]: f"/{'x' * 999}"}, [f"{CLIENT[1]}: '/x*' cannot be read .File name too long.; .*"]),
    (WHOLE | {"DEFAULT_MGR_USERNAME": "", "DEFAULT_MGR_SECRET": ""}, []),
    (LEAST | {"DATA_OMIT_COLUMNS": "vendor x-y"}, ["DATA_OMIT_COLUMNS: 'x-y' .*"]),
]


@pytest.mark.parametrize(("environ", "expected"), TOGETHER)
def test_settings_that_contradict_or_need_each_other_are_named_with_which_to_remove_or_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], expected: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("key.pem").write_bytes(key_of(P256, PKCS8))
    Path("ca.pem").write_bytes(PEM)
    found = problems({"DEFAULT_MGR_ADDRESS": "mgr", **environ}) if expected else []
    assert len(found) == len(expected)
    for problem, pattern in zip(found, expected, strict=True):
        assert re.fullmatch(pattern, problem), problem
    if not expected:
        assert read_settings({"DEFAULT_MGR_ADDRESS": "mgr", **environ}).client_id == "client"


def test_a_key_in_place_of_its_file_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(key := key_of(P256, PKCS8).decode())
    client = {"DEFAULT_MGR_ADDRESS": "mgr", ID: "client", KEY: str(tmp_path / "key.pem")}
    for wrong in ({KEY: key}, {"DEFAULT_MGR_CLIENT_KEY": key}):
        (problem,) = problems(client | wrong)
        assert re.search("; save (it|the key) in a file and", problem)
        assert not any(line in problem for line in key.splitlines()[1:-1])
    found = read_settings(client)
    assert found.client_key == key.encode()
    assert "PRIVATE KEY" not in repr(found)


CASES = ROOT / "tests" / "cases"
PEM = certificates.issued().ca


@pytest.mark.parametrize(
    "content",
    [
        PEM,
        b"\xef\xbb\xbf" + PEM,
        "# Zertifizierungsstelle für Møte\r\n".encode() + PEM.replace(b"\n", b"\r\n"),
        b"# Br\xf8nn\xf8ysund\n" + PEM,
        b"0 of 1\n" + PEM,
        PEM.decode().encode("utf-16"),
        b"\xfe\xff" + PEM.decode().encode("utf-16-be"),
        ssl.PEM_cert_to_DER_cert(PEM.decode()),
    ],
    ids=["PEM", "byte order mark", "UTF-8 comment", "Latin-1 comment", "0 as in DER", "UTF-16", "UTF-16 BE", "DER"],
)
def test_certificates_are_read_whatever_wrote_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ca.pem").write_bytes(content)
    pem = settings(DEFAULT_MGR_CA_FILE=str(tmp_path / "ca.pem")).ca_pem or ""
    assert ssl.PEM_cert_to_DER_cert(pem) == ssl.PEM_cert_to_DER_cert(PEM.decode())


def test_each_certificate_of_a_bundle_is_read(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(PEM + PEM)
    assert (settings(DEFAULT_MGR_CA_FILE=str(tmp_path / "ca.pem")).ca_pem or "").count("BEGIN CERTIFICATE") == 2


def key_of(
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, form: PrivateFormat, password: bytes = b""
) -> bytes:
    return private.private_bytes(Encoding.PEM, form, BestAvailableEncryption(password) if password else NoEncryption())


CA, SECRET, ID, KEY = ("DEFAULT_MGR_CA_FILE", "DEFAULT_MGR_SECRET_FILE", *CLIENT[:2])
P256 = ec.generate_private_key(ec.SECP256R1())
PKCS8, SEC1 = PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL
NO_KEYS = (
    *(b"", b" \n", b"\x30\x81\x87\x02\x01", key_of(P256, PrivateFormat.OpenSSH)),
    P256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    key_of(P256, PKCS8)[:90] + b"\n-----END PRIVATE KEY-----\n",
)


def test_a_key_is_taken_as_the_node_or_openssl_writes_it() -> None:
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey"]
    openssl = subprocess.run(command, capture_output=True, check=True).stdout
    assert b"EC PARAMETERS" in openssl
    read_key(openssl)
    for pem in (key_of(P256, PKCS8), key_of(P256, SEC1)):
        for written in (pem, pem.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + pem, b"\n  " + pem.rstrip()):
            assert read_key(written).private_numbers() == P256.private_numbers()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (CA, b"", "holds no certificate; give a PEM file with"),
        (CA, b"\xef\xbb\xbf", "holds no certificate; give"),
        (CA, b"text", "holds no certificate; give"),
        (CA, PEM + PEM.replace(b"M", b"!"), "holds 2 certificates, and number 2 is damaged; give"),
        (CA, PEM[:-40] + PEM, "holds 2 certificates, and number 1 is damaged; give"),
        (CA, PEM + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "and number 2 is damaged; give"),
        (CA, PEM.replace(b"M", b"\xe5"), "holds 1 certificate, and number 1 is damaged; give"),
        (CA, b"\x30\x82", "holds 1 certificate, and number 1 is damaged; give"),
        (CA, b"\xff\xfex", "is damaged UTF-16; save it as UTF-8"),
        (CA, b"x\0" * 20, "is not text (it has zero bytes); save it as UTF-8"),
        (CA, None, "cannot be read (it is not a file); give"),
        (CA, b"x" * (1 << 20), "holds no certificate; give"),
        (CA, b"x" * ((1 << 20) + 1), "cannot be read (it is larger than 1048576 bytes); give"),
        *[(SECRET, content, "is empty; put the password") for content in (b"", b"\n")],
        (SECRET, b"\xff\xfes", "save it as UTF-8"),
        (SECRET, "s3cret".encode("utf-16-le"), "save it as UTF-8"),
        *[(KEY, content, "holds no private key, or a damaged one; put") for content in NO_KEYS],
        (KEY, key_of(P256, PKCS8, b"s3cret"), "is encrypted, and its passphrase cannot be entered here"),
        (KEY, key_of(rsa.generate_private_key(65537, 2048), PKCS8), "holds a key of the kind RSA, and"),
        (KEY, key_of(ec.generate_private_key(ec.SECP384R1()), PKCS8), "holds a key of the kind secp384r1, and"),
    ],
)
def test_a_file_that_does_not_serve_is_named_with_its_reason(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "file"
    os.mkfifo(path) if content is None else path.write_bytes(content)
    way_in = {CA: {"DEFAULT_MGR_SECRET": "x"}, KEY: {ID: "client"}}.get(name, {})
    (problem,) = problems({"DEFAULT_MGR_ADDRESS": "mgr", name: str(path), **way_in})
    assert problem.startswith(f"{name}: {str(path)!r} ")
    assert reason in problem
    assert "s3cret" not in problem.replace("\0", "")


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"s3cr\xc3\xa9t\n", "s3crét".encode()),
        ((CASES / "secret-bom.txt").read_bytes(), "s3crét".encode()),
        ((CASES / "secret-utf16.txt").read_bytes(), "s3crét".encode()),
        (b"\xfe\xff" + "s3crét\r\n".encode("utf-16-be"), "s3crét".encode()),
        (b"s3cr\xe9t", b"s3cr\xe9t"),
        (b"'s3cret' \r\n", b"'s3cret' "),
        (b" two\nlines \xff\xfe'\" \n", b" two\nlines \xff\xfe'\" "),
        (b"ends with two breaks\n\r\n", b"ends with two breaks\n"),
    ],
)
def test_a_password_file_of_windows_holds_the_password(tmp_path: Path, content: bytes, password: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    environ = {"DEFAULT_MGR_ADDRESS": "mgr", "DEFAULT_MGR_SECRET_FILE": str(tmp_path / "secret")}
    assert read_settings(environ).secret == password
    assert read_settings(environ, {"DEFAULT_MGR_SECRET_FILE": content}).secret == password, "read by root before"


@pytest.mark.parametrize("sign", [*string.punctuation, " ", "é", "%41"])
def test_a_mail_password_arrives_whole_as_the_page_says_to_write_it(sign: str) -> None:
    page = (ROOT / "docs" / "getting-told.md").read_text(encoding="utf-8")
    codes = {" ": "%20", **{char: code for code, char in re.findall("`(%[0-9A-F]+)` for\\s`([^`]+)`", page)}}
    assert set("@#$&;% ") == set(codes)
    written = "".join(codes.get(char, char) for char in f"a{sign}b9")
    (url,) = settings(
        DATA_NOTIFY_URLS=f"mailtos://smtp.example.com?user=pexip&pass={written}&from=p@example.com&to=o@example.com"
    ).notify_urls
    (service,) = notify._services([url])  # private: what Apprise makes of it cannot be seen from outside
    assert service
    assert next(iter(service)).password == f"a{sign}b9"


def test_a_variable_that_is_nearly_one_of_ours_is_a_warning_with_the_nearest() -> None:
    environ = {
        "DATA_KEEP_DAY": "secret-value",
        "DATA_CRON": "x",
        "DEFAULT_MGR_SECRETFILE": "x",
        "DATA_WAREHOUSE": "",
        "DATA_csv_bom": "",
        "OTHER": "",
        **dict.fromkeys(NAMES, ""),
    }
    assert unknown_variables(environ) == [
        "DATA_CRON: the collector has no setting of this name; did you mean DATA_CRON_TIME?",
        "DATA_KEEP_DAY: the collector has no setting of this name; did you mean DATA_KEEP_DAYS?",
        "DATA_WAREHOUSE: the collector has no setting of this name; remove it, unless another program reads it",
        "DATA_csv_bom: the collector has no setting of this name; did you mean DATA_CSV_BOM?",
        "DEFAULT_MGR_SECRETFILE: the collector has no setting of this name; did you mean DEFAULT_MGR_SECRET_FILE?",
    ]
    assert len(settings(DATA_KEEP_DAY="7").unknown) == 1


def test_a_run_and_check_warn_of_it_and_go_on(node: ManagementNode, collector: Site) -> None:
    collector.env["DATA_KEEP_DAY"] = "7"
    warning = "DATA_KEEP_DAY: the collector has no setting of this name; did you mean DATA_KEEP_DAYS?"
    outcome = collector("collect")
    assert outcome.code == 0
    assert f" WARNING {warning}\n" in outcome.stderr
    assert f"warn settings: valid, but {warning}\n" in collector("check").stdout


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("0 0 * * sat-sun", "'sat-sun' in the field day-of-week ends before it begins; write 6,0"),
        ("0 0 * * 1,fri-mon", "write 1,5-6,0-1"),
        ("0 22-2 * * *", "write 22-23,0-2"),
        ("0 0 1 nov-feb *", "write 11-12,1-2"),
        ("0 0 28-3 * *", "write 28-31,1-3"),
        ("0 0 28-1 * *", "write 28-31,1"),
        ("0 0 * * 7-1", None),
        ("0 25-2 * * *", None),  # which no field has
    ],
)
def test_a_range_over_the_end_of_its_field_is_refused_with_what_cron_takes(given: str, hint: str | None) -> None:
    (problem,) = problems({**LEAST, "DATA_CRON_TIME": given})
    if hint is None:
        assert "write" not in problem
        return
    assert problem.endswith(hint)
    wrong = next(field for field in given.split() if "-" in field)
    fixed = given.replace(wrong, hint.rpartition(" ")[2])
    assert settings(DATA_CRON_TIME=fixed).schedule


@pytest.mark.parametrize(
    "url",
    ["ftp://hc", "https://", "https://hc:99999", "https://hc:0", "https://[hc", "https://hc/a b", "https:/hc", ""],
)
def test_a_ping_url_that_is_none_is_a_problem_that_does_not_show_it(url: str) -> None:
    (problem,) = problems({**LEAST, "DATA_PING_URL": f"{url}/s3cret"})
    assert problem.startswith("DATA_PING_URL: is not an http or https URL")
    assert "s3cret" not in problem


def test_neither_a_problem_nor_what_is_printed_of_the_settings_has_a_secret() -> None:
    secrets = {"DATA_PING_URL": "https://hc/s3cret", "DATA_NOTIFY_URLS": "json://s3cret"}
    secrets["DEFAULT_MGR_SECRET"] = "s3cret"
    assert "s3cret" not in repr(replace(settings(**secrets), client_key=b"s3cret"))
    assert "s3cret" not in "\n".join(problems({**secrets, "DEFAULT_MGR_SECRET_FILE": "/nowhere", "TZ": "?"}))


ADDRESSES = {
    "mgr": "mgr",
    "https://mgr.example.com": "mgr.example.com",
    "HTTPS://mgr.example.com/": "mgr.example.com",
    " mgr.example.com ": "mgr.example.com",
    '"mgr.example.com"': "mgr.example.com",
    "mgr.example.com:65535": "mgr.example.com:65535",
    "mgr:1": "mgr:1",
    "https://192.0.2.7:8443/": "192.0.2.7:8443",
    "2001:db8::7": "[2001:db8::7]",
    "[2001:db8::7]": "[2001:db8::7]",
    "https://[2001:db8::7]:8443/": "[2001:db8::7]:8443",
}
URLS = ("mailtos://smtp.example.com?to=a@example.com,b@example.com", "discord://1/x")
NIGHTLY = Schedule("5 0 * * *", ZoneInfo("Europe/Oslo"))
FINGERPRINT = ":".join(["A5"] * 16 + ["0F"] * 16)
DIGITS = FINGERPRINT.replace(":", "").lower()


def as_shown(fingerprint: str) -> Iterator[str]:
    """As openssl and browsers show it."""
    for form in ("{}", "sha256:{}", "SHA256 Fingerprint={}", "sha256 Fingerprint={}", " {} "):
        for digits in (fingerprint, fingerprint.lower(), DIGITS, fingerprint.replace(":", " ")):
            yield form.format(digits)


MEANT: list[tuple[str, str, str, object]] = [
    *[("DEFAULT_MGR_ADDRESS", given, "address", meant) for given, meant in ADDRESSES.items()],
    *[("DATA_CSV_BOM", word, "csv_bom", True) for word in ("TRUE", "1", "'yes'")],
    *[("DATA_CSV_BOM", word, "csv_bom", False) for word in ("no", "off")],
    *[("DATA_NOTIFY_URLS", between.join(URLS), "notify_urls", URLS) for between in (" ", "\n", ",", " , ", ";", ",\n")],
    ("DATA_NOTIFY_URLS", "mailto://h?pass=a;b&to=x", "notify_urls", ("mailto://h?pass=a%3Bb&to=x",)),
    *[("DATA_REPORT", text, "report", meant) for text, meant in (("Monthly", "monthly"), ("yes", "true"), ("off", ""))],
    ("DATA_KEEP_DAYS", "36500", "keep_days", 36500),
    ("DATA_LOG_LEVEL", "debug", "log_level", "DEBUG"),
    ("DATA_DIR", "//srv/calls", "data_dir", Path("/srv/calls")),
    ("PUID", "4294967294", "puid", 4294967294),
    ("UMASK", "077", "umask", 0o077),
    ("TZ", ":Asia/Tokyo", "zone", ZoneInfo("Asia/Tokyo")),
    *[("DEFAULT_MGR_USERNAME", text, "username", meant) for text, meant in (("'", "'"), ("''", "admin"), ("aa", "aa"))],
    ("DATA_SINCE", "1970-06-01T00:00Z", "since", datetime(1970, 6, 1, tzinfo=UTC)),
    ("DEFAULT_MGR_TLS_VERIFY", "false", "tls_verify", False),
    ("DATA_SINCE", "2026-11-23", "since", datetime(2026, 11, 22, 23, tzinfo=UTC)),
    ("DATA_SINCE", "2026-11-23T12:00+03:00", "since", datetime(2026, 11, 23, 9, tzinfo=UTC)),
    ("DATA_LICENSES", " port=100, AUDIO=20", "licenses", {"port": 100, "audio": 20}),
    *[("DATA_CRON_TIME", text, "schedule", NIGHTLY) for text in ("5 0 * * *", '"5 0 * * *"', " 5  0 * * * ")],
    *[("DEFAULT_MGR_TLS_FINGERPRINT", text, "fingerprint", DIGITS) for text in as_shown(FINGERPRINT)],
    *[("DATA_PING_URL", text, "ping_url", text) for text in ("https://[::1]:80/x?create=1", "http://hc:1/x")],
]


@pytest.mark.parametrize(("name", "given", "attribute", "meant"), MEANT)
def test_a_setting_is_taken_as_it_was_meant(name: str, given: str, attribute: str, meant: object) -> None:
    assert getattr(settings(**{"TZ": "Europe/Oslo", name: given}), attribute) == meant


def test_an_empty_value_is_the_default() -> None:
    names = (name for name, _, _ in WRONG if name not in LEAST)
    assert settings(**dict.fromkeys(names, "")) == settings()


def test_the_example_has_every_setting_of_the_program_with_its_default_and_the_readme_has_it_too() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    names = {name for variable in VARIABLES.values() for name in (variable.name, variable.file) if name}
    assert set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)) == names | {"COLLECTOR_IMAGE"}
    defaults = {v.name: str(v.default) for v in VARIABLES.values() if v.default or v.default in (0, False)}
    defaults = {name: text.lower() if text in ("True", "False") else text for name, text in defaults.items()}
    defaults |= {"UMASK": "027", "DATA_REPORT": "false"}
    assert dict(re.findall(r"^#([A-Z_]+)=(.+)$", example, re.MULTILINE)) == defaults
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Settings")[2].partition("\n## ")[0]
    assert [name for name in NAMES if f"`{name}`" not in table and not name.endswith("_FILE")] == []


# Passwords

PASSWORDS = [
    b"  50%, $HOME $$ ${HOME} $(id) `id` #no comment \\ \\n  ",
    b"'quotes\"",
    b'"in quotes"',
    b"it's: line\nbreak,\rreturn\t",
    "møte 密码 🔑".encode() + b" latin-1 \xe6\xf8\xe5 \xff, half a pair \xed\xa0\x80",
    b"x" * 500,
]


def sent_by(collector: Site, node: ManagementNode) -> tuple[bytes, str]:
    """The user and password of the first request, as bytes, and what the collector said."""
    outcome = collector(env={"DATA_LOG_LEVEL": "DEBUG"})
    scheme, _, encoded = node.requests[0].headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(encoded), outcome.output


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_from_the_environment_reaches_the_node_byte_for_byte(
    node: ManagementNode, collector: Site, password: bytes
) -> None:
    collector.env["DEFAULT_MGR_SECRET"] = os.fsdecode(password)
    sent, output = sent_by(collector, node)
    assert sent == b"admin:" + password
    assert os.fsdecode(password) not in output


def test_a_user_name_reaches_the_node_in_utf_8(node: ManagementNode, collector: Site) -> None:
    node.username = collector.env["DEFAULT_MGR_USERNAME"] = "kåre"
    assert sent_by(collector, node)[0] == "kåre:sesame, open".encode()
    assert collector("check").code == 0


# Schedules


@pytest.mark.parametrize(
    ("given", "zone", "after", "times"),
    [
        # no 02:30 on that night: at once when the clock has jumped
        ("30 2 * * *", "Europe/Oslo", "2026-03-28T12:00", ["2026-03-29T03:00", "2026-03-30T02:30"]),
        # 02:30 comes twice: once is enough
        ("30 2 * * *", "Europe/Oslo", "2026-10-24T12:00", ["2026-10-25T02:30", "2026-10-26T02:30"]),
        # hourly stays hourly in both nights
        ("0 * * * *", "Europe/Oslo", "2026-03-29T01:30", ["2026-03-29T03:00", "2026-03-29T04:00"]),
        ("0 * * * *", "Europe/Oslo", "2026-10-25T00:30", ["2026-10-25T01:00", "2026-10-25T02:00", "2026-10-25T02:00"]),
        ("5 0 * * *", "Europe/Oslo", "2026-11-23T00:05", ["2026-11-24T00:05", "2026-11-25T00:05"]),
        ("0 0 29 2 *", "UTC", "2026-11-23T00:00", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("@hourly", "UTC", "2026-11-23T00:00", ["2026-11-23T01:00", "2026-11-23T02:00"]),
        *[(f"@{word}", "UTC", "2026-11-23T00:00", ["2026-11-24T00:00"]) for word in ("daily", "midnight")],
        ("@weekly", "UTC", "2026-11-23T00:00", ["2026-11-29T00:00", "2026-12-06T00:00"]),
        ("@monthly", "UTC", "2026-11-23T00:00", ["2026-12-01T00:00", "2027-01-01T00:00"]),
        *[(f"@{word}", "UTC", "2026-11-23T00:00", ["2027-01-01T00:00"]) for word in ("yearly", "annually")],
        # both days given: either; one of them a star: both
        ("0 0 13 * fri", "UTC", "2026-11-12T12:00", ["2026-11-13T00:00", "2026-11-20T00:00"]),
        ("0 0 */2 * mon", "UTC", "2026-11-01T12:00", ["2026-11-09T00:00", "2026-11-23T00:00"]),
    ],
)
def test_the_next_times_are_those_of_debians_cron(given: str, zone: str, after: str, times: list[str]) -> None:
    wanted = settings(DATA_CRON_TIME=given, TZ=zone)
    moment = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    for time in times:
        moment = wanted.schedule.next(moment)
        assert moment.tzinfo is UTC
        assert f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%dT%H:%M}" == time


@pytest.mark.parametrize("zone", ["Europe/Oslo", "America/New_York", "Australia/Lord_Howe", "America/Havana"])
@pytest.mark.parametrize("given", ["30 2 * * *", "0 * * * *", "*/15 * * * *", "5 */2 * * *", "59 1 * * *", "0 0 * * 0"])
def test_the_last_time_is_the_newest_of_those_that_came_whatever_the_clock_did(given: str, zone: str) -> None:
    wanted = settings(DATA_CRON_TIME=given, TZ=zone)
    for year_day in ("2026-03-05", "2026-03-27", "2026-04-02", "2026-10-02", "2026-10-23", "2026-10-30"):
        start = moment = datetime.fromisoformat(f"{year_day}T00:00+00:00")
        times = []
        while moment < start + timedelta(days=11):
            moment = wanted.schedule.next(moment)
            times.append(moment)
        assert times == sorted(set(times))
        for hours in range(8 * 24, 11 * 24, 2 if "*" in given.split()[1] else 5):
            now = start + timedelta(hours=hours, minutes=7)
            assert wanted.schedule.last(now) == max(t for t in times if t <= now)
        assert wanted.schedule.last(times[-1]) == times[-1], "at the moment itself"


def test_a_time_that_did_not_come_for_five_years_is_not_looked_for() -> None:
    moment = datetime(2103, 6, 1, tzinfo=UTC)
    last = settings(DATA_CRON_TIME="0 0 29 2 *").schedule.last
    assert last(moment) == moment - timedelta(days=1830)
    assert last(datetime(2101, 2, 28, tzinfo=UTC)) == datetime(2096, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    "given",
    [
        *("5 0 * * *", "@daily", "@Weekly", "0 0 1 1 *", "*/5 8-17 * * mon-fri", "5-5 0 * * *", "0 0-23 * * *"),
        *("1-5/2,30 * * jan,jul *", "0 0 1-31 * mon", "0 0 1 * 0-6", "0 0 13 * */7", "0 0 *,5 * mon"),
        *("0 0 1 1-12 mon", "00 07 * * 7"),
    ],
)
def test_the_crontab_means_what_the_setting_means(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = settings(DATA_CRON_TIME=given)
    assert operate.crontab(wanted) == 0
    (line,) = capsys.readouterr().out.splitlines()
    words = line.split()
    fields = words[:1] if line.startswith("@") else words[:5]
    assert " ".join(words[len(fields) :]) == operate.CRON_COMMAND
    printed = settings(DATA_CRON_TIME=" ".join(fields))
    moments = [datetime(2026, 11, 1, tzinfo=UTC)] * 2
    for _ in range(30):
        moments = [one.schedule.next(m) for one, m in zip((wanted, printed), moments, strict=True)]
        assert moments[0] == moments[1]


def test_the_crontab_holds_no_password_and_is_one_line(collector: Site) -> None:
    collector.env |= {"DATA_CRON_TIME": "5 0 * * *", "DEFAULT_MGR_SECRET": "sesame %$#", "TZ": "Asia/Tokyo"}
    outcome = collector("crontab")
    assert outcome.code == 0
    assert outcome.stdout == f"5 0 * * * {operate.CRON_COMMAND}\n"
    assert "sesame" not in outcome.output
    assert re.search(r"^At 00:05 every day \(Asia/Tokyo\), next \S+ 00:05, as \d", outcome.stderr, re.MULTILINE)
