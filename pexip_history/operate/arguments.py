"""The command line: the commands and their options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from pexip_history import __version__
from pexip_history.settings.values import since

DESCRIPTION = "Collect Pexip Infinity's call detail records into CSV files, each record exactly once."
COMMANDS = {
    "collect": "collect once: what is new since the last run, or a time of your choice (this is what cron runs)",
    "check": "show for each requirement whether it is met, or how to fix it",
    "status": "say what the last runs did, when the next one is, and how complete the history is",
    "report": "write report.html: when you are busiest, how many licenses you need, which rooms have bad calls",
    "health": "say in one line whether collection works; exit 1 where it does not (for HEALTHCHECK)",
    "crontab": "print the crontab that DATA_CRON_TIME stands for",
}

EXAMPLES = """\
Without a command: collect. More about one: collector.py COMMAND --help. Examples:
  collector.py collect --from 2026-11-01 --to 2026-11-08T12:00+01:00
  collector.py status --json
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
        name: commands.add_parser(name, help=text, description=text.capitalize() + ".")
        for name, text in COMMANDS.items()
    }
    of["collect"].add_argument(
        "--from", dest="start", type=_moment(zone), metavar="T", help="collect what ended at or after this date or time"
    )
    of["collect"].add_argument(
        "--to", dest="end", type=_moment(zone), metavar="T", help="collect what ended before this date or time (in TZ)"
    )
    of["collect"].add_argument(
        "--if-due", action="store_true", help="collect only if the last scheduled time was missed"
    )
    of["check"].add_argument("--notify", action="store_true", help="also send a test to those who are told of failures")
    for name, word in (("--from", "first"), ("--to", "last")):
        of["report"].add_argument(name, dest=word, type=_day, metavar="D", help=f"{word} day of the period, in TZ")
    of["report"].add_argument(
        "--output", type=Path, metavar="FILE", help="elsewhere than report.html in the data folder"
    )
    of["report"].add_argument("--hide-names", action="store_true", help="number the rooms instead of naming them")
    of["status"].add_argument("--json", action="store_true", help="for a program to read")
    return parser.parse_args(arguments)


def _moment(zone: ZoneInfo) -> Callable[[str], datetime]:
    def parse(text: str) -> datetime:
        try:
            moment = since(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)

    return parse


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date; give one such as 2026-11-23") from None
