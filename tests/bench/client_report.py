"""The report of a data folder, as `collector.py report` makes it: python -m tests.bench.client_report FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path
from zoneinfo import ZoneInfo

from pexip_history.report import Facts, write_report

if __name__ == "__main__":
    data = Path(sys.argv[1])
    write_report(data, data / "report.html", zone=ZoneInfo("Europe/Oslo"), facts=Facts("bench"))
