"""The environment, checked: one table of settings, and what contradicts what."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pexip_history.errors import SettingsError
from pexip_history.messages import sentence
from pexip_history.settings import values
from pexip_history.settings.columns import omitted
from pexip_history.settings.files import as_utf8, certificates, read_file, read_key
from pexip_history.settings.schedule import Schedule, five_fields

IMAGE_DATA = Path("/app/data")
"""The data folder in the image."""
ID, KEY_FILE, AUDIENCE = "DEFAULT_MGR_CLIENT_ID", "DEFAULT_MGR_CLIENT_KEY_FILE", "DEFAULT_MGR_TOKEN_AUDIENCE"
ACCOUNT = ("DEFAULT_MGR_USERNAME", "DEFAULT_MGR_SECRET", "DEFAULT_MGR_SECRET_FILE")


@dataclass(frozen=True)
class Variable:
    """A setting: what its text means, and what it is where there is none.

    A secret says what a file of it `holds`, and NAME_FILE may name one. A name that ends so is for a file alone, and
    then `read` takes the file's bytes.
    """

    name: str
    read: Callable[..., object]
    default: object
    holds: str

    @property
    def file(self) -> str:
        """The variable that names a file, if there may be one."""
        return self.name if self.name.endswith("_FILE") else f"{self.name}_FILE" if self.holds else ""

    def text(self, given: str) -> str:
        """What is given, without quotes and spaces around it; a password keeps them: they may be part of it."""
        return given if self.read is values.password else values.unquoted(given)


def _set_by(name: str, read: Callable[..., object], default: object = None, holds: str = "") -> Any:
    return field(repr=not holds, metadata={"variable": Variable(name, read, default, holds)})


@dataclass(frozen=True)
class Settings:
    """What the environment asks for, checked. Limits are counts; 0 stands for no limit.

    What files hold that the environment names was read already: after that, nothing outside the data
    folder is opened.
    """

    address: str = _set_by("DEFAULT_MGR_ADDRESS", values.address, "")
    username: str = _set_by("DEFAULT_MGR_USERNAME", values.username, "admin")
    secret: bytes = _set_by("DEFAULT_MGR_SECRET", values.password, b"", holds="password")
    client_id: str | None = _set_by(ID, values.client_id)
    client_key: bytes = _set_by(KEY_FILE, as_utf8, b"", holds="private key")
    token_audience: str | None = _set_by(AUDIENCE, values.audience)
    ca_pem: str | None = _set_by("DEFAULT_MGR_CA_FILE", certificates)
    fingerprint: str | None = _set_by("DEFAULT_MGR_TLS_FINGERPRINT", values.fingerprint)
    tls_verify: bool = _set_by("DEFAULT_MGR_TLS_VERIFY", values.flag, True)
    conf_limit: int = _set_by("DEFAULT_CONF_LIMIT", values.count, 5000)
    part_limit: int = _set_by("DEFAULT_PART_LIMIT", values.count, 10000)
    schedule: Schedule | None = _set_by("DATA_CRON_TIME", five_fields)
    data_dir: Path = _set_by("DATA_DIR", values.folder, IMAGE_DATA)
    run_on_start: bool = _set_by("DATA_RUN_ON_START", values.flag, False)
    csv_bom: bool = _set_by("DATA_CSV_BOM", values.flag, False)
    escape_formulas: bool = _set_by("DATA_CSV_ESCAPE_FORMULAS", values.flag, True)
    since: datetime | None = _set_by("DATA_SINCE", values.since)
    media_streams: bool = _set_by("DATA_MEDIA_STREAMS", values.flag, False)
    events: bool = _set_by("DATA_EVENTS", values.flag, False)
    keep_days: int = _set_by("DATA_KEEP_DAYS", values.days, 0)
    keep_history_days: int = _set_by("DATA_KEEP_HISTORY_DAYS", values.days, 0)
    omit_columns: frozenset[str] = _set_by("DATA_OMIT_COLUMNS", omitted, frozenset())
    parquet: bool = _set_by("DATA_PARQUET", values.flag, False)
    report: str = _set_by("DATA_REPORT", values.report_mode, "")
    licenses: Mapping[str, int] = _set_by("DATA_LICENSES", values.licenses, {})
    report_hide_names: bool = _set_by("DATA_REPORT_HIDE_NAMES", values.flag, False)
    ping_url: str | None = _set_by("DATA_PING_URL", values.ping_url, holds="URL of the check")
    notify_urls: tuple[str, ...] = _set_by("DATA_NOTIFY_URLS", values.urls, (), holds="Apprise URLs")
    log_level: str = _set_by("DATA_LOG_LEVEL", values.level, "INFO")
    puid: int | None = _set_by("PUID", values.user_id)
    pgid: int | None = _set_by("PGID", values.user_id)
    umask: int = _set_by("UMASK", values.mask, 0o027)
    zone: ZoneInfo = _set_by("TZ", values.zone, ZoneInfo("UTC"))
    unknown: tuple[str, ...] = ()
    """What to warn of: variables that look like settings, each with the nearest (see `unknown_variables`)."""


ATTRIBUTES: dict[str, Variable] = {f.name: f.metadata["variable"] for f in fields(Settings) if f.metadata}
VARIABLES = {variable.name: variable for variable in ATTRIBUTES.values()}
FILES = tuple(variable.file for variable in VARIABLES.values() if variable.file)
"""The variables that name a file, which root reads before it becomes another user."""
SECRETS = tuple(dict.fromkeys(name for v in VARIABLES.values() if v.holds for name in (v.name, v.file)))
"""The variables that hold a secret, or name a file that does."""
NAMES = tuple(dict.fromkeys((*VARIABLES, *SECRETS)))
"""Of all variables that are read."""


def read_variable(environ: Mapping[str, str], name: str) -> Any:
    """What one variable means, its default where it is empty. Raises SettingsError."""
    read = Reader(environ, {})
    value = read.value(VARIABLES[name])
    read.finish()
    return value


def read_settings(
    environ: Mapping[str, str], files: Mapping[str, bytes] | None = None, *, node: bool = True, schedule: bool = False
) -> Settings:
    """Read the settings; `node` and `schedule` say what must be there. Raises SettingsError.

    `files` are what files hold that root read before it became another user, by the variable that names them.
    """
    read = Reader(environ, files or {})
    found: dict[str, Any] = {attribute: read.value(variable) for attribute, variable in ATTRIBUTES.items()}
    if node:
        _check_node(read, found)
    if schedule and not found["schedule"]:
        read.problem("DATA_CRON_TIME", sentence("schedule-missing"))
    _check_client(read)
    for name, attribute in (("DEFAULT_MGR_CA_FILE", "ca_pem"), ("DEFAULT_MGR_TLS_FINGERPRINT", "fingerprint")):
        if found[attribute] and not found["tls_verify"]:
            read.problem(name, sentence("tls-contradiction"))
    read.finish()
    if found["schedule"]:
        found["schedule"] = Schedule(found["schedule"], found["zone"])
    if start := found["since"]:
        found["since"] = (start if start.tzinfo else start.replace(tzinfo=found["zone"])).astimezone(UTC)
    return Settings(**found, unknown=tuple(unknown_variables(environ)))


class Reader:
    """What variables hold, and what is wrong with them: once for each."""

    def __init__(self, environ: Mapping[str, str], files: Mapping[str, bytes]) -> None:
        self.environ, self.files = environ, files
        self._problems: dict[str, str] = {}

    def problem(self, name: str, text: str) -> None:
        self._problems.setdefault(name, f"{name}: {text}")

    def finish(self) -> None:
        """Raises SettingsError where there was a problem."""
        if self._problems:
            raise SettingsError(list(self._problems.values()))

    def given(self, *names: str) -> list[str]:
        """Those of the variables that are not empty."""
        return [name for name in names if values.unquoted(self.environ.get(name, ""))]

    def value(self, variable: Variable) -> object:
        """What the variable means; its default where it is empty, or wrong, which goes to the problems."""
        path = values.unquoted(self.environ.get(variable.file, ""))
        text = variable.text(self.environ.get(variable.name, ""))
        try:
            if not path:
                return variable.read(text) if text else variable.default
            if text and variable.file != variable.name:
                raise ValueError(sentence("set-twice", setting=variable.name))
            return self._held(variable, path)
        except ValueError as error:
            self.problem(variable.file if path else variable.name, str(error))
            return variable.default

    def _held(self, variable: Variable, path: str) -> object:
        """What the variable means whose file it is. Raises ValueError."""
        if "-----" in path or len(path) > 1000:  # not shown: it would be the key
            raise ValueError(sentence("content-for-file"))
        try:
            held = self.files[variable.file] if variable.file in self.files else read_file(Path(path))
            if variable.file == variable.name:
                return variable.read(held)
            text = os.fsdecode(as_utf8(held).removesuffix(b"\n").removesuffix(b"\r"))
            if not text:
                raise ValueError(sentence("file-empty", what=variable.holds))
            return variable.read(variable.text(text))
        except OSError as error:
            wrong = sentence("file-unreadable", why=error.strerror)
        except ValueError as error:
            wrong = str(error)
        raise ValueError(f"{path!r} {wrong}")


def _check_node(read: Reader, found: Mapping[str, Any]) -> None:
    """The node has an address, and there is a password or a key."""
    if not found["address"]:
        read.problem("DEFAULT_MGR_ADDRESS", sentence("address-missing"))
    if read.given(KEY_FILE):  # here, since what asks no node has no use for the library that reads it
        try:
            read_key(found["client_key"])
        except ValueError as error:
            read.problem(KEY_FILE, f"{values.unquoted(read.environ[KEY_FILE])!r} {error}")
    if not found["secret"] and not read.given("DEFAULT_MGR_SECRET_FILE", ID, KEY_FILE):
        read.problem("DEFAULT_MGR_SECRET", sentence("secret-missing"))


def _check_client(read: Reader) -> None:
    """An OAuth2 client is whole, and it is in place of an account."""
    if read.given("DEFAULT_MGR_CLIENT_KEY"):
        read.problem("DEFAULT_MGR_CLIENT_KEY", sentence("key-not-read", setting=KEY_FILE))
    client, account = read.given(ID, KEY_FILE, AUDIENCE), read.given(*ACCOUNT)
    if client and account:
        read.problem(
            client[0], sentence("client-and-account", account=" and ".join(account), client=" and ".join(client))
        )
    elif client:
        for name, missing in ((ID, "client-id-missing"), (KEY_FILE, "client-key-missing")):
            if name not in client:
                read.problem(name, sentence(missing, setting=client[0]))


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A line for each variable that begins as ours do and is none of them, with the nearest that is. No values.

    It is for a warning: another program may share the environment.
    """
    found = []
    for name in sorted(environ):
        if name.startswith(("DATA_", "DEFAULT_")) and name not in NAMES:
            from difflib import get_close_matches

            near = get_close_matches(name.upper(), sorted(NAMES), cutoff=0.75)
            hint = f"did you mean {near[0]}?" if near else "remove it, unless another program reads it"
            found.append(sentence("unknown-setting", setting=name, hint=hint))
    return found
