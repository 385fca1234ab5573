"""What the collector does, shown on this machine: python -m tests.demo (make demo).

A Management Node (tests/management_node) with two months of a company's calls answers on the loopback, and
collector.py is run against it as a user would run it, over verified TLS.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from tests.management_node import ManagementNode
from tests.management_node.weeks import weeks

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "demo"
"""Not ./demo-data: what Compose's demo wrote there may be another user's."""
PASSWORD = "correct horse battery staple"
COLUMNS = {
    "pexHistoryConf.csv": ["end_time", "name", "service_type", "participant_count", "duration"],
    "pexHistoryPart.csv": ["end_time", "display_name", "protocol", "call_quality", "conference_name"],
}
ROWS, WIDEST = 6, 19
DAYS = 60


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if DATA.exists() and (DATA.stat().st_uid != os.geteuid() or not os.access(DATA, os.R_OK | os.W_OK | os.X_OK)):
        sys.exit(f"{DATA} is another user's; remove it as that user (sudo rm -r {DATA}), and start again.")
    if DATA.exists() and any(DATA.iterdir()) and not (DATA / ".collector").exists():
        sys.exit(f"{DATA} holds something else than the last demo's files; move it away.")
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(exist_ok=True)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    first = yesterday - timedelta(days=DAYS - 1)
    title("A Management Node with two months of calls")
    with ManagementNode(tells_time=True, secret=PASSWORD) as node:
        node.load(weeks(1, yesterday))
        print(f"https://{node.address}, certificate of a company's own CA")
        settings = {
            "DEFAULT_MGR_ADDRESS": node.address,
            "DEFAULT_MGR_SECRET": PASSWORD,
            "DEFAULT_MGR_CA_FILE": str(node.ca_file),
            "DATA_DIR": str(DATA),
            "DATA_MEDIA_STREAMS": "true",
        }
        title("The collector")
        for name, value in settings.items():
            print(f"$ export {name}={shlex.quote(value)}")
        for command in (["check"], ["collect", "--from", f"{first}", "--to", f"{yesterday + timedelta(days=1)}"]):
            if code := collector(command, settings):
                print(f"\n{command[0]} ended with {code}, which is not how it should be.", file=sys.stderr)
                return code
        collector(["report"], settings)
    title("What was written")
    show_files()
    for name, columns in COLUMNS.items():
        table = rows(DATA / name)
        title(f"The first rows of {relative(DATA / name)}, {len(columns)} of {len(table.columns)} columns")
        shown = table.project(", ".join(f"left({column}, {WIDEST}) AS {column}" for column in columns))
        shown.limit(ROWS).show(max_width=shutil.get_terminal_size((100, 24)).columns)
    title("Where to go next")
    print(f"The files are in {relative(DATA)}; any spreadsheet opens them, and so does pandas or DuckDB.")
    print(f"What they say is in {relative(DATA / 'report.html')}; open it in a browser.")
    print("README.md says how to collect from your own Management Node, on a schedule.")
    return 0


def collector(command: list[str], settings: dict[str, str]) -> int:
    """Runs it as the shell would, and tells how it ended."""
    print(f"\n$ python collector.py {' '.join(command)}", flush=True)
    # What the shell has set for another node must not lead the demo there.
    ours = ("DEFAULT_", "DATA_", "PUID", "PGID", "UMASK", "TZ")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run([sys.executable, "collector.py", *command], cwd=ROOT, env=kept | settings)
    return done.returncode


def rows(file: Path) -> duckdb.DuckDBPyRelation:
    return duckdb.read_csv(str(file), all_varchar=True, parallel=False)


def show_files() -> None:
    files = sorted(DATA.glob("*.csv"))
    longest = max(len(relative(file)) for file in files)
    for file in files:
        print(f"{relative(file):<{longest}} {len(rows(file)):>5} rows {file.stat().st_size / 1000:>8.1f} kB")
    print(f"{relative(DATA / 'data_collector.log'):<{longest}}  the log lines above")


def relative(path: Path) -> str:
    return f"./{path.relative_to(ROOT)}"


def title(text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}{text}{plain}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
