"""The environment, checked: one table of variables, and what contradicts what."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from pexip_history.errors import SettingsError
from pexip_history.messages import sentence
from pexip_history.settings.columns import omitted
from pexip_history.settings.files import as_utf8, in_pem, read_file
from pexip_history.settings.oauth2_client import AUDIENCE, ID, KEY_FILE, read_client
from pexip_history.settings.schedule import Schedule, five_fields
from pexip_history.settings.values import (
    address,
    as_bytes,
    count,
    days,
    fingerprint,
    flag,
    folder,
    level,
    licenses,
    mask,
    ping_url,
    report_mode,
    since,
    unquoted,
    urls,
    user_id,
    username,
    zone,
)

IMAGE_DATA = Path("/app/data")
"""The data folder in the image."""


@dataclass(frozen=True)
class Settings:
    """What the environment asks for, checked. Limits are counts; 0 stands for no limit.

    What files hold that the environment names was read already: after that, nothing outside the data
    folder is opened.
    """

    address: str
    username: str
    secret: bytes = field(repr=False)
    client_id: str | None
    client_key: bytes = field(repr=False)
    token_audience: str | None
    ca_pem: str | None = field(repr=False)
    fingerprint: str | None
    tls_verify: bool
    conf_limit: int
    part_limit: int
    schedule: Schedule | None
    data_dir: Path
    run_on_start: bool
    csv_bom: bool
    escape_formulas: bool
    since: datetime | None
    media_streams: bool
    events: bool
    keep_days: int
    keep_history_days: int
    omit_columns: frozenset[str]
    parquet: bool
    report: str
    licenses: Mapping[str, int]
    report_hide_names: bool
    ping_url: str | None = field(repr=False)
    notify_urls: tuple[str, ...] = field(repr=False)
    log_level: str
    umask: int
    zone: ZoneInfo
    unknown: tuple[str, ...] = ()
    """What to warn of: variables that look like settings, each with the nearest (see `unknown_variables`)."""


@dataclass(frozen=True)
class Variable:
    """A setting: what its text means, and what it is where there is none.

    `attribute` is its name in Settings. With `in_file` NAME_FILE may name a file that holds it; a
    file alone where the name itself ends so.
    """

    name: str
    attribute: str
    read: Callable[[str], object]
    default: object = None
    in_file: bool = False


VARIABLES = (
    Variable("DEFAULT_MGR_ADDRESS", "address", address, ""),
    Variable("DEFAULT_MGR_USERNAME", "username", username, "admin"),
    Variable("DEFAULT_MGR_SECRET", "secret", as_bytes, b"", in_file=True),
    Variable("DEFAULT_MGR_CA_FILE", "ca_pem", str),
    Variable("DEFAULT_MGR_TLS_FINGERPRINT", "fingerprint", fingerprint),
    Variable("DEFAULT_MGR_TLS_VERIFY", "tls_verify", flag, True),
    Variable("DEFAULT_CONF_LIMIT", "conf_limit", count, 5000),
    Variable("DEFAULT_PART_LIMIT", "part_limit", count, 10000),
    Variable("DATA_CRON_TIME", "schedule", five_fields),
    Variable("DATA_DIR", "data_dir", folder, IMAGE_DATA),
    Variable("DATA_RUN_ON_START", "run_on_start", flag, False),
    Variable("DATA_CSV_BOM", "csv_bom", flag, False),
    Variable("DATA_CSV_ESCAPE_FORMULAS", "escape_formulas", flag, True),
    Variable("DATA_SINCE", "since", since),
    Variable("DATA_MEDIA_STREAMS", "media_streams", flag, False),
    Variable("DATA_EVENTS", "events", flag, False),
    Variable("DATA_KEEP_DAYS", "keep_days", days, 0),
    Variable("DATA_KEEP_HISTORY_DAYS", "keep_history_days", days, 0),
    Variable("DATA_OMIT_COLUMNS", "omit_columns", omitted, frozenset()),
    Variable("DATA_PARQUET", "parquet", flag, False),
    Variable("DATA_REPORT", "report", report_mode, ""),
    Variable("DATA_LICENSES", "licenses", licenses, {}),
    Variable("DATA_REPORT_HIDE_NAMES", "report_hide_names", flag, False),
    Variable("DATA_PING_URL", "ping_url", ping_url, in_file=True),
    Variable("DATA_NOTIFY_URLS", "notify_urls", urls, (), in_file=True),
    Variable("DATA_LOG_LEVEL", "log_level", level, "INFO"),
    Variable("PUID", "PUID", user_id),
    Variable("PGID", "PGID", user_id),
    Variable("UMASK", "umask", mask, 0o027),
    Variable("TZ", "zone", zone, ZoneInfo("UTC")),
)
SECRETS = (*(name for v in VARIABLES if v.in_file for name in (v.name, f"{v.name}_FILE")), KEY_FILE)
"""The variables that hold a secret, or name a file that does."""
READ_BY_ROOT = (*(name for name in SECRETS if name.endswith("_FILE")), "DEFAULT_MGR_CA_FILE")
"""The variables that name a file which root reads before it becomes another user."""
NAMES = (*dict.fromkeys([*(variable.name for variable in VARIABLES), *SECRETS, ID, KEY_FILE, AUDIENCE]),)
"""Of all variables that are read."""
BY_NAME = {variable.name: variable for variable in VARIABLES}


def read_variable(environ: Mapping[str, str], name: str) -> object:
    """What one variable means, its default where it is empty. Raises SettingsError."""
    variable = BY_NAME[name]
    problems: list[str] = []
    value = _value(Reader(environ, {}, problems), variable)
    if problems:
        raise SettingsError(problems)
    return value


def read_settings(
    environ: Mapping[str, str], files: Mapping[str, bytes] | None = None, *, node: bool = True, schedule: bool = False
) -> Settings:
    """Read the settings; `node` and `schedule` say what must be there. Raises SettingsError.

    `files` are what files hold that root read before it became another user, by the variable that names them.
    """
    problems: list[str] = []
    read = Reader(environ, files or {}, problems)
    values = {variable.attribute: _value(read, variable) for variable in VARIABLES}
    values["ca_pem"] = _certificates(read, str(values["ca_pem"] or ""))
    del values["PUID"], values["PGID"]  # they were obeyed before
    line = values.pop("schedule")
    client = read_client(read, node)
    if node and not values["address"]:
        read.problem("DEFAULT_MGR_ADDRESS", sentence("address-missing"))
    if node and not client.given and not values["secret"] and not read.text("DEFAULT_MGR_SECRET_FILE"):
        name = "DEFAULT_MGR_SECRET"
        read.problem(name, sentence("secret-missing", setting=name))
    if schedule and not line:
        read.problem("DATA_CRON_TIME", sentence("schedule-missing"))
    for name in ("DEFAULT_MGR_CA_FILE", "DEFAULT_MGR_TLS_FINGERPRINT"):
        if values[BY_NAME[name].attribute] and not values["tls_verify"]:
            read.problem(name, sentence("tls-contradiction"))
    if problems:
        raise SettingsError(problems)
    when = Schedule(str(line), values["zone"]) if line else None  # type: ignore[arg-type]
    if isinstance(start := values["since"], datetime):
        values["since"] = (start if start.tzinfo else start.replace(tzinfo=values["zone"])).astimezone(UTC)  # type: ignore[arg-type]
    values |= {"client_id": client.id, "client_key": client.key, "token_audience": client.audience}
    return Settings(**values, schedule=when, unknown=tuple(unknown_variables(environ)))  # type: ignore[arg-type]


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A line for each variable that begins as ours do and is none of them, with the nearest that is. No values.

    It is for a warning: another program may share the environment.
    """
    found = []
    for name in sorted(environ):
        if name.startswith(("DATA_", "DEFAULT_")) and name not in NAMES:
            from difflib import get_close_matches

            near = get_close_matches(name.upper(), sorted(NAMES), 1, 0.75)
            hint = f"did you mean {near[0]}?" if near else "remove it, unless another program reads it"
            found.append(sentence("unknown-setting", setting=name, hint=hint))
    return found


class Reader:
    """What variables hold, and what is wrong with them: once for each."""

    def __init__(self, environ: Mapping[str, str], files: Mapping[str, bytes], problems: list[str]) -> None:
        self.environ, self.files, self.problems = environ, files, problems

    def text(self, name: str, default: str = "") -> str:
        return unquoted(self.environ.get(name, "")) or default

    def file(self, name: str, path: str) -> bytes:
        """What the file that this variable names holds. Raises OSError."""
        if name in self.files:
            return self.files[name]
        return read_file(Path(path))

    def problem(self, name: str, text: str) -> None:
        if not any(problem.startswith(f"{name}: ") for problem in self.problems):
            self.problems.append(f"{name}: {text}")


def _value(read: Reader, variable: Variable) -> object:
    """What the variable means; its default where it is empty, or wrong, which goes to the problems."""
    name, path = variable.name, read.text(f"{variable.name}_FILE") if variable.in_file else ""
    # A password keeps its quotes and its spaces: they may be part of it.
    text = read.environ.get(name, "") if variable.read is as_bytes else read.text(name)
    if path:
        if text:
            read.problem(f"{name}_FILE", sentence("set-twice", setting=name))
            return variable.default
        name = f"{name}_FILE"
        try:
            held = as_utf8(read.file(name, path)).removesuffix(b"\n").removesuffix(b"\r")
        except OSError as error:
            read.problem(name, sentence("file-unreadable", file=path, why=error.strerror))
            return variable.default
        except ValueError as error:
            read.problem(name, f"{path!r} {error}")
            return variable.default
        if not held:
            read.problem(name, sentence("file-empty", file=path, what=SECRET_IN[variable.name]))
        text = os.fsdecode(held) if variable.read is as_bytes else unquoted(os.fsdecode(held))
    try:
        return variable.read(text) if text else variable.default
    except ValueError as error:
        read.problem(name, str(error))
        return variable.default


def _certificates(read: Reader, path: str) -> str | None:
    """Those in the CA file, as PEM in ASCII; None where it is not set, or of no use, which goes to the problems."""
    name = "DEFAULT_MGR_CA_FILE"
    try:
        return in_pem(read.file(name, path)) if path else None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        read.problem(name, sentence("ca-unusable", file=path, why=why))
        return None


SECRET_IN = {
    "DEFAULT_MGR_SECRET": "password",
    "DATA_PING_URL": "URL of the check",
    "DATA_NOTIFY_URLS": "Apprise URLs",
}
