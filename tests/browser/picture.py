"""docs/report.png, the picture in the README: the top of the demo's report. python -m tests.browser.picture"""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from playwright.sync_api import sync_playwright

from pexip_history.report import Facts, write_report
from tests.management_node.weeks import weeks
from tests.report_reader import NOW, write_archive

from .conftest import CHROMIUM

TARGET = Path(__file__).resolve().parent.parent.parent / "docs" / "report.png"
LARGEST = 200_000


def main() -> None:
    if not CHROMIUM:
        sys.exit("Chromium is missing; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        data = Path(name) / "data"
        write_archive(data, weeks(1, date(2026, 11, 24)))
        covered = [(datetime(2026, 9, 20, tzinfo=UTC), datetime(2026, 11, 25, tzinfo=UTC))]
        owned = {"port": 90, "audio": 10}
        facts = Facts("1.2.0", coverage=covered)
        write_report(data, data / "report.html", zone=ZoneInfo("UTC"), facts=facts, now=NOW, licenses=owned)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1215})
        page.goto((data / "report.html").as_uri())
        TARGET.write_bytes(page.screenshot())
        browser.close()
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")
    if TARGET.stat().st_size > LARGEST:
        sys.exit(f"more than {LARGEST / 1000:.0f} kB")


if __name__ == "__main__":
    main()
