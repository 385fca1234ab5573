"""The commands besides collect, each in a room of its own."""

from __future__ import annotations

import argparse

from pexip_history.settings.environment import Settings


def carry_out(settings: Settings, asked: argparse.Namespace) -> int:
    """Carry out the command and return the exit code. Raises CollectorError, OSError, sqlite3.Error."""
    match asked.command:
        case "status":
            from pexip_history.operate.status import status

            return status(settings, asked.json)
        case "report":
            from pexip_history.operate.report_page import report_command

            return report_command(settings, asked)
        case "erase":
            from pexip_history.operate.erase import erase

            return erase(settings, asked.person, asked.yes)
        case "export":
            from pexip_history.operate.export_command import export_table

            return export_table(settings, asked)
        case "parquet":
            from pexip_history.operate.parquet_files import make

            return make(settings, asked.some)
        case "verify":
            from pexip_history.operate.verify import verify

            return verify(settings)
        case "check":
            from pexip_history.operate.check import at_start, check

            return at_start(settings) if asked.at_start else check(settings, asked.notify)
        case "health":
            from pexip_history.operate.health import health

            return health(settings)
        case _:
            from pexip_history.operate.crontab import crontab

            return crontab(settings)
