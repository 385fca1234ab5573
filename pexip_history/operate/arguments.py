"""The command line: the commands and their options."""

from __future__ import annotations

import argparse
from calendar import monthrange
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from pexip_history import __version__
from pexip_history.errors import MISUSED
from pexip_history.export.choices import FORMATS, QUALITIES, TABLES
from pexip_history.folder.people import ADDRESS, ALIAS, NAME, Person
from pexip_history.messages import sentence
from pexip_history.settings.values import licenses, since

T = TypeVar("T")

DESCRIPTION = "Collect Pexip Infinity's call detail records into CSV files, each record exactly once."
COMMANDS = {
    "collect": "collect once: what is new since the last run, or a time of your choice (this is what cron runs)",
    "check": "show for each requirement whether it is met, or how to fix it",
    "status": "show what the last runs did, when the next one is, and how complete the history is",
    "report": "write report.html: when you are busiest, how many licenses you need, which rooms have bad calls",
    "erase": "find a person's rows in every file and, with --yes, empty the cells that name the person",
    "export": "write a table of the history for a person or a program: " + ", ".join(TABLES),
    "parquet": "make the Parquet files that are missing now; with DATA_PARQUET=true each run makes some",
    "verify": "compare the files with the manifest, with each other and with the ledger, and show what was changed",
    "health": "say in one line whether collection works; exit code 1 if it does not (for HEALTHCHECK)",
    "crontab": "print the crontab that DATA_CRON_TIME stands for",
}

EXAMPLES = """\
Without a command: collect. More about a command: collector.py COMMAND --help. Examples:
  collector.py collect --from 2026-11-01 --to 2026-11-08T12:00+01:00
  collector.py status --json
  collector.py export usage --month 2026-11
  collector.py export calls --quality bad --room "Board*" --from 2026-11-16 --to 2026-11-20
The settings are environment variables; README.md lists them."""


def parse(arguments: Sequence[str], zone: ZoneInfo) -> argparse.Namespace:
    """The command and its options; without a command it is collect. Exits where they are wrong."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        arguments = ["collect", *arguments]
    parser = argparse.ArgumentParser(
        prog="collector.py",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    of = {
        name: commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        for name, text in COMMANDS.items()
    }
    _collect(of["collect"], zone)
    of["check"].add_argument(
        "--notify", action="store_true", help="also send a test to DATA_PING_URL and DATA_NOTIFY_URLS"
    )
    of["check"].add_argument("--at-start", action="store_true", help=argparse.SUPPRESS)  # entrypoint.sh
    of["parquet"].add_argument("--some", action="store_true", help=argparse.SUPPRESS)  # after a run
    of["status"].add_argument("--json", action="store_true", help="for a program to read")
    _report(of["report"])
    _export(of["export"])
    _add_person(of["erase"], required=True, text="whose rows: the whole {}, upper or lower case; * stands for any text")
    of["erase"].add_argument("--yes", action="store_true", help="do it; without it the rows are only counted")
    asked = parser.parse_args(arguments)
    if getattr(asked, "month", None):
        if asked.first or asked.last:
            parser.exit(MISUSED, f"{sentence('month-and-days')}\n")
        asked.first, asked.last = asked.month
    return asked


def _collect(parser: argparse.ArgumentParser, zone: ZoneInfo) -> None:
    moment = _said(partial(_in_zone, zone=zone))
    since_help = "collect only what ended at or after this date or time (in TZ)"
    parser.add_argument("--from", dest="start", type=moment, metavar="T", help=since_help)
    until_help = "collect only what ended before this date or time (in TZ; the time itself is not included)"
    parser.add_argument("--to", dest="end", type=moment, metavar="T", help=until_help)
    due_help = "collect only if the last scheduled time was missed"
    parser.add_argument("--if-due", action="store_true", help=due_help)


def _report(parser: argparse.ArgumentParser) -> None:
    for name, word in (("--from", "first"), ("--to", "last")):
        parser.add_argument(name, dest=word, type=_day, metavar="D", help=f"{word} day of the period, included, in TZ")
    parser.add_argument("--month", type=month, metavar="YYYY-MM", help="one month, compared with the month before")
    owned_help = "how many are owned, as in port=100,audio=20 (default: DATA_LICENSES)"
    parser.add_argument("--licenses", type=_said(licenses), metavar="L", help=owned_help)
    rooms_help = (
        "a text file with the name of each configured room on its own line: the report names those that nobody used"
    )
    parser.add_argument("--rooms", type=Path, metavar="FILE", help=rooms_help)
    output_help = (
        "where to write it, instead of report.html in the data folder; a relative path begins in the current folder"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help=output_help)
    hide_help = "numbers instead of the names of rooms and service tags, and no text that a caller can set"
    parser.add_argument("--hide-names", action="store_true", help=hide_help)
    parser.add_argument("--figures", action="store_true", help=argparse.SUPPRESS)  # for the monthly message


def _add_person(parser: argparse.ArgumentParser, *, required: bool, text: str) -> None:
    whose = parser.add_mutually_exclusive_group(required=required)
    for option, column in ((NAME, "display_name"), (ALIAS, "remote_alias"), (ADDRESS, "remote_address")):
        person = _said(partial(Person, option))
        whose.add_argument(f"--{option}", dest="person", type=person, metavar="TEXT", help=text.format(column))


def _export(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    width = max(map(len, TABLES)) + 2
    parser.epilog = "tables:\n" + "\n".join(f"  {name:{width}}{what}" for name, what in TABLES.items())
    add = parser.add_argument
    add("table", choices=TABLES, metavar="TABLE", help=", ".join(TABLES))
    for name, word in (("--from", "first"), ("--to", "last")):
        add(name, dest=word, type=_day, metavar="D", help=f"{word} day, included, in TZ: what began on it")
    add("--month", type=month, metavar="YYYY-MM", help="one month")
    add("--format", choices=FORMATS, help="default: what the name of --output ends in, or xlsx")
    add("--columns", type=_names, default=(), metavar="A,B", help="these columns, in this order")
    for name, what in (("tag", "service tag"), ("room", "room"), ("location", "location")):
        add(f"--{name}", metavar="TEXT", help=f"only this {what}; * stands for any text, '' for none")
    add("--quality", choices=QUALITIES, help="only this call quality; bad includes terrible")
    _add_person(
        parser,
        required=False,
        text="only the rows that erase would find: the whole {}, upper or lower case; * stands for any text",
    )
    add(
        "--delimiter",
        type=_delimiter,
        metavar="C",
        help="for csv: a character, or tab; with ; a double click opens it in a European Excel",
    )
    add("--round-up", action="store_true", help="for usage: round up the minutes of each connection")
    add("--hide-names", action="store_true", help="pseudonyms instead of names, aliases, addresses, rooms and tags")
    add("--partial", action="store_true", help="for usage: also if the history of the period is not complete")
    add("--output", type=Path, metavar="FILE", help="where to write it, instead of the data folder")


def month(text: str) -> tuple[date, date]:
    """First and last day of a month that is written as YYYY-MM."""
    try:
        first = date.fromisoformat(f"{text}-01")
    except ValueError:
        raise argparse.ArgumentTypeError(sentence("not-a-month", value=text)) from None
    return first, first.replace(day=monthrange(first.year, first.month)[1])


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _delimiter(text: str) -> str:
    sign = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(sign) != 1 or sign in '"\r\n' or ord(sign) > 127:
        raise argparse.ArgumentTypeError(sentence("not-a-separator", value=text))
    return sign


def _in_zone(text: str, zone: ZoneInfo) -> datetime:
    moment = since(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)


def _said(read: Callable[[str], T]) -> Callable[[str], T]:
    """As argparse wants it: what the ValueError says is shown."""

    def parse(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(sentence("not-a-day", value=text)) from None
