"""What a collection costs next to what it could cost: `make bench`, or python -m tests.bench report --quick.

Side by side, as whole processes against a node whose pages are ready made:
  a   the floor: download alone, with requests (`raw`: its body read the cheapest way)
  b   the plain pipeline: requests, json.loads, csv.writer, no promise kept
  c   the collector, whole

Then the collector with a long history already there, where all is known already (reconciling, a window by hand, the
ledger's size), against a node that takes its time, its `health`, and the report on histories of three sizes. Figures
are medians of interleaved runs.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from tests.bench import stage
from tests.bench.measure import Cost, FailedError, run

LARGE = 300_000
"""Participants from which on a size is measured once."""
PAGE = 1000
"""The node's largest page."""
BYTES_EACH = 10_000
"""Of disk for each participant: the node's records, a client's files, staged and published."""
ROW_BYTES, A_DAY = 1640, 10_000
"""Of a participant in an archive, about, and how many of them it has on each day (archive.py)."""
ARCHIVE_BYTES_EACH = 2_500
"""Of disk for each participant that the report reads: its row, and DuckDB's tables and what it spills."""
OF_PLAIN = {100_000: 0.45}
"""What the collector may take of the plain pipeline's time, by participants; 0.5 where nothing is said."""
REPORT_SECONDS = {100_000: 2, 1_000_000: 8, 5_000_000: 40}
"""What the report may take by the participants that the history holds."""
DELAY = 0.001
MB = 10**6
CLIENTS = {"a": "floor", "raw": "floor, raw", "b": "plain", "c": "collector"}
COLUMNS = (
    "id,start_time,start_local,end_time,duration,display_name,remote_alias,conference_name,protocol,call_quality,"
    "system_location,disconnect_reason,license_type"
)
"""Of the workbook."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as name:
        failed = False
        for part in options.parts or PARTS:
            try:
                with tempfile.TemporaryDirectory(dir=name) as own:
                    PARTS[part](Path(own), options)
            except FailedError as error:
                say(f"\n{part}: {error}")
                failed = True
    if failed:
        sys.exit(1)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__, formatter_class=form)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all without one")
    parser.add_argument("--participants", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], metavar="N")
    parser.add_argument("--repeat", type=int, default=5, help="runs that a median is of")
    parser.add_argument("--folder", type=Path, help="where the files go (a temporary folder)")
    another = "another one than this repository's, such as that of an earlier commit"
    parser.add_argument("--collector", type=Path, default=stage.ROOT / "collector.py", help=another)
    parser.add_argument("--quick", action="store_true", help="10,000 participants, three runs, histories of 200 MB")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no {', '.join(unknown)}")
    # What is there already: of the long aggregate, of one that is all known, and of one to erase in.
    options.history, options.known, options.erase = (5000 * MB, 2000 * MB, 2000 * MB)
    options.report, options.export = list(REPORT_SECONDS), 1_000_000
    if options.quick:
        options.participants, options.repeat = [10_000], 3
        options.history = options.known = options.erase = 200 * MB
        options.report, options.export = [100_000], 100_000
    return options


def collecting(folder: Path, options: argparse.Namespace) -> None:
    """Each size that the disk has room for."""
    for size in options.participants:
        if enough(folder, size * BYTES_EACH, f"{size:,} participants"):
            compare(folder, size, 1 if size >= LARGE else options.repeat, options.collector)


def compare(folder: Path, participants: int, repeat: int, program: Path) -> None:
    """Run the clients in turn; print the median of each."""
    costs: dict[str, list[Cost]] = {client: [] for client in CLIENTS}
    with stage.node(folder / "node", participants, PAGE) as node:
        for turn in range(repeat):
            costs["a"].append(stage.client(node, "floor", "content"))
            costs["raw"].append(stage.client(node, "floor", "raw"))
            costs["b"].append(stage.client(node, "plain", str(folder)))
            collector = stage.Collector(node, folder / "data", program)
            costs["c"].append(collector.run("collect"))
            collector.expect_rows({name: count + 1 for name, count in node.day.counts.items()})  # and the header
            if turn == 0:
                collector.verify()
            collector.discard()
        records = sum(node.day.counts.values())
    medians = {client: Cost.median(each) for client, each in costs.items()}
    say(f"\n{participants:,} participants, pages of {PAGE}, median of {repeat}")
    for client, cost in medians.items():
        show(f"{client:4}{CLIENTS[client]}", cost, f"{records / cost.wall:,.0f} records/s")
    for other, wanted in (("b", f"at most {OF_PLAIN.get(participants, 0.5)}"), ("a", "at most 2.5"), ("raw", "")):
        wall, cpu = (getattr(medians["c"], figure) / getattr(medians[other], figure) for figure in ("wall", "cpu"))
        say(f"  c/{other:4} wall {wall:5.2f}  CPU {cpu:5.2f}  {wanted}")


def history(folder: Path, options: argparse.Namespace) -> None:
    """The same collection into an aggregate of 1 MB and into a long one, in turn."""
    participants = min(100_000, max(options.participants))
    long = options.history
    if not enough(folder, long + participants * BYTES_EACH, f"a history of {long // MB} MB"):
        return
    costs: dict[int, list[Cost]] = {MB: [], long: []}
    with stage.node(folder / "node", participants, PAGE) as node:
        grown = {size: stage.Collector(node, folder / f"data-{size}", options.collector) for size in costs}
        for size, collector in grown.items():
            collector.begin(size)
        for _ in range(options.repeat):
            for size, collector in grown.items():
                costs[size].append(collector.collect_the_rest())
    say(f"\nInto an aggregate that is there already, {participants:,} participants")
    for size, each in costs.items():
        show(f"{size // MB:,} MB", Cost.median(each))


def reconcile(folder: Path, options: argparse.Namespace) -> None:
    """A run that reads the node's whole list of conferences and finds nothing new; the ledger's size."""
    participants = min(100_000, max(options.participants))
    costs, requests = [], []
    with stage.node(folder / "node", participants, PAGE) as node:
        collector = stage.Collector(node, folder / "data", options.collector)
        collector.run("collect")
        for _ in range(options.repeat):
            collector.doubt()
            node.asked()
            costs.append(collector.run_in_vain("collect"))
            requests.append(node.asked()["requests"])
        size = collector.ledger.stat().st_size / MB
    say(f"\nReconciling with nothing new, {participants:,} participants known (wall at most 3, peak at most 80)")
    more = f"{max(requests):.0f} requests (at most 12), ledger {size:.1f} MB (below 20)"
    show("the whole list", Cost.median(costs), more)


def by_hand(folder: Path, options: argparse.Namespace) -> None:
    """A window by hand over what is known, with an aggregate as it was collected and with a long one, in turn."""
    participants = min(100_000, max(options.participants))
    long = options.known
    if not enough(folder, long + 2 * participants * BYTES_EACH, f"a window by hand over {long // MB} MB"):
        return
    costs: dict[str, list[Cost]] = {"as collected": [], f"{long // MB:,} MB": []}
    with stage.node(folder / "node", participants, PAGE) as node:
        collectors = [stage.Collector(node, folder / f"data-{n}", options.collector) for n in range(len(costs))]
        for collector in collectors:
            collector.run("collect")
        stage.grow(collectors[-1].aggregate("participant"), long)
        made = node.day.made
        window = ("--from", f"{made - timedelta(hours=21)}Z", "--to", f"{made}Z")
        for _ in range(options.repeat):
            for each, collector in zip(costs.values(), collectors, strict=True):
                each.append(collector.run_in_vain("collect", *window))
    say(f"\nA window by hand over {participants:,} known participants (as fast whatever the aggregate's size)")
    for name, each in costs.items():
        show(name, Cost.median(each))


def slow_node(folder: Path, options: argparse.Namespace) -> None:
    """A node that spends a millisecond an object: how much of the time is the node's."""
    participants = min(options.participants)
    costs, shares = [], []
    with stage.node(folder / "node", participants, PAGE, DELAY) as node:
        for _ in range(min(options.repeat, 3)):
            collector = stage.Collector(node, folder / "data", options.collector)
            costs.append(collector.run("collect"))
            shares.append(node.asked()["slept"] / costs[-1].wall)
            collector.discard()
    say(f"\nA node that spends {DELAY * 1000:.0f} ms an object, {participants:,} participants")
    show("a collection", Cost.median(costs), f"{statistics.median(shares):.1%} of it the node's (at least 95 %)")


def health(folder: Path, options: argparse.Namespace) -> None:
    """`collector.py health` after a collection, whatever it finds."""
    with stage.node(folder / "node", 1000, 1000) as node:
        collector = stage.Collector(node, folder / "data", options.collector)
        collector.run("collect")
        costs = [collector.run("health", accept=(0, 1)) for _ in range(10)]
    say("\nHealth")
    show("(wall under 0.15)", Cost.median(costs))


def report(folder: Path, options: argparse.Namespace) -> None:
    """The page on archives of several sizes."""
    repeat = min(options.repeat, 3)
    say(f"\nThe report, median of {repeat} (peak at most 400)")
    for participants in options.report:
        if not enough(folder, participants * ARCHIVE_BYTES_EACH, f"a report on {participants:,} participants"):
            continue
        with tempfile.TemporaryDirectory(dir=folder) as name:
            stage.write_archive(Path(name), participants)
            command = [sys.executable, str(options.collector), "report"]
            each = [run(command, {"DATA_DIR": name, "TZ": "Europe/Oslo"}) for _ in range(repeat)]
            size = Path(name, "report.html").stat().st_size / 1000
        wanted = f"wall at most {REPORT_SECONDS[participants]}, " if participants in REPORT_SECONDS else ""
        show(f"{participants:,} participants", Cost.median(each), f"{wanted}page {size:.0f} kB (at most 500)")


def parquet(folder: Path, options: argparse.Namespace) -> None:
    """A run with DATA_PARQUET beside one without; Polars alone, without the guard, would take 27 % more."""
    say("\nA run without DATA_PARQUET, and with it (CPU at most 15 % more)")
    for participants in (10_000, 100_000):
        costs: dict[str, list[Cost]] = {"false": [], "true": []}
        with stage.node(folder / "node", participants, PAGE) as node:
            for _ in range(options.repeat):
                for wanted, each in costs.items():
                    collector = stage.Collector(node, folder / "data", options.collector, {"DATA_PARQUET": wanted})
                    each.append(collector.run("collect"))
                    collector.discard()
        without, made = (Cost.median(each) for each in costs.values())
        show(f"{participants:,} participants", without)
        show("with it", made, f"{made.cpu / without.cpu - 1:.0%} more")


def exporting(folder: Path, options: argparse.Namespace) -> None:
    """Parquet, a workbook and usage of a long history, each as the command that makes it."""
    participants, data = options.export, folder / "data"
    millions = participants / 1e6
    if not enough(folder, participants * 8_000, f"exports of {participants:,} participants"):
        return
    (data / ".collector").mkdir(parents=True)
    (data / ".collector" / "lock").touch()
    stage.write_archive(data, participants)
    split(data, "pexHistoryPart.csv")
    say(f"\nExports of {participants:,} participants")
    people = ("export", "participants", "--columns", COLUMNS, "--output", str(folder / "people.xlsx"))
    usage = ("export", "usage", "--partial", "--format", "csv", "--output", str(folder / "usage.csv"))
    for what, wanted, words in (
        ("Parquet of its dated files", f"{12 * millions:.1f} s, 400 MB", ("parquet",)),
        ("workbook of 13 columns", f"{90 * millions:.1f} s, 300 MB", people),
        ("usage of all of it", f"{10 * millions:.1f} s", usage),
    ):
        cost = run([sys.executable, str(options.collector), *words], {"DATA_DIR": str(data), "TZ": "Europe/Oslo"})
        show(what, cost, f"at most {wanted}")


def split(data: Path, name: str) -> None:
    """Make dated files of an aggregate, a busy platform's day each."""
    csv.field_size_limit(1 << 24)
    with (data / name).open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header, day = next(rows), datetime(2026, 1, 1, 0, 5)
        while some := list(itertools.islice(rows, A_DAY)):
            with (data / f"{day:%Y-%m-%d_%H-%M-%S}_{name}").open("w", encoding="utf-8", newline="") as dated:
                csv.writer(dated).writerows([header, *some])
            day += timedelta(days=1)


def erasing(folder: Path, options: argparse.Namespace) -> None:
    """A person erased from a long history, and half of it removed for its age, beside a copy through the csv module."""
    if not enough(folder, 4 * options.erase, f"erasing in {options.erase // MB} MB"):
        return
    participants = options.erase // ROW_BYTES
    stage.write_archive(folder, participants)
    file, spare = folder / "pexHistoryPart.csv", folder / "copy.csv"
    program = [sys.executable, str(options.collector), "erase", "--yes", "--alias"]
    half = str(max(1, participants // A_DAY // 2))  # of its days
    environment = {"DATA_DIR": str(folder), **stage.FROM_HERE}
    run([*program, "nobody"], environment)  # makes the ledger
    copy = run([*stage.CLIENT, "copy", str(file), str(spare)], environment)
    spare.unlink()
    say(f"\nErasing in {file.stat().st_size // MB:,} MB, beside a copy (at most 3 times, peak at most 80)")
    show("a copy", copy)
    for name, command in (
        ("nobody found", [*program, "nobody"]),
        ("one in six rows", [*program, "ola@example.com"]),
        ("every row", [*program, "*"]),
        ("half removed", [*stage.CLIENT, "keep", str(folder), half]),
    ):
        cost = run(command, environment)
        show(name, cost, f"{cost.wall / copy.wall:.2f} of it, CPU {cost.cpu / copy.cpu:.2f}")


def enough(folder: Path, needed: int, what: str) -> bool:
    """Whether the disk has room; if not, says what is left out."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        say(f"\n{what}: left out, it takes {needed // MB:,} MB of disk and {free // MB:,} are free")
    return free >= needed


def show(what: str, cost: Cost, more: str = "") -> None:
    say(f"  {what:<27} wall {cost.wall:7.2f} s, CPU {cost.cpu:7.2f} s, peak {cost.peak:5.1f} MB  {more}".rstrip())


def say(line: str) -> None:
    print(line, flush=True)


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    part.__name__: part
    for part in (collecting, history, reconcile, by_hand, slow_node, health, erasing, parquet, exporting, report)
}


if __name__ == "__main__":
    main()
