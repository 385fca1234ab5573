"""`verify`: the files against the manifest, the aggregates against the dated files and the ledger, Parquet too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pexip_history.archive import manifest
from pexip_history.archive.comparing import compare
from pexip_history.archive.manifest import ERASED, REMOVED, Entry
from pexip_history.archive.parquet_rows import TABLES, parquet_files
from pexip_history.errors import DONE, FAILED, CollectorError, printable
from pexip_history.folder.names import AGGREGATES, DATED, dated_name, format_stem
from pexip_history.folder.opening import behind_link, other_kind, own
from pexip_history.history.database import workshop
from pexip_history.messages import counted
from pexip_history.operate.status import peek, say
from pexip_history.settings.environment import Settings

WRITTEN, EDITED, MISSING, KEPT, RESTORED, UNKNOWN = "as written", "edited", "missing", "kept", "restored", "unknown"
WORDS = {
    WRITTEN: "as written",
    ERASED: "rewritten by the collector itself (erase, DATA_KEEP_HISTORY_DAYS)",
    KEPT: "removed by DATA_KEEP_DAYS",
    EDITED: "edited",
    MISSING: "missing",
    RESTORED: "here again after DATA_KEEP_DAYS",
    UNKNOWN: "not in the manifest",
}
GOOD = (WRITTEN, ERASED, KEPT)


def verify(settings: Settings) -> int:
    """Say what was changed, by whom as far as that is known; exit 1 where the collector did not do it.

    Raises CollectorError, OSError, sqlite3.Error.
    """
    data = settings.data_dir
    latest = manifest.latest(data)
    dated = [path for path in sorted(data.iterdir()) if DATED.fullmatch(path.name) and not other_kind(path)]
    counts: Counter[str] = Counter()
    for name, state, more in _files(settings, latest, {path.name for path in dated}):
        counts[state] += 1
        if state not in GOOD:
            say(f"{printable(name)}: {more}")
    told = [*_aggregates(settings, dated), *_parquet(data, latest)]
    for line in told:
        say(line)
    for state, word in WORDS.items():
        if counts[state]:
            say(f"{counted(counts[state], 'dated file')} {word}")
    if not counts:
        say("There are no dated files yet")
    return DONE if not told and counts.keys() <= set(GOOD) else FAILED


def _files(settings: Settings, latest: dict[str, Entry], there: set[str]) -> Iterator[tuple[str, str, str]]:
    """Of each dated file, here or in the manifest: its name, its state, and that in words."""
    data = settings.data_dir
    oldest = datetime.now(UTC) - timedelta(days=settings.keep_days)
    limit = format_stem(oldest.astimezone(settings.zone)) if settings.keep_days else ""
    for name in sorted(there | set(latest)):
        entry = latest.get(name)
        if entry is None:
            yield name, UNKNOWN, "not in manifest.jsonl; the next run notes it, if the collector wrote it"
        elif name not in there:
            kept = entry.change == REMOVED or name < limit
            yield name, KEPT if kept else MISSING, "missing; restore it from a backup"
        elif entry.change == REMOVED:
            yield name, RESTORED, "here again, though DATA_KEEP_DAYS removed it"
        else:
            found = manifest.measure(data / name)
            if (found.size, found.sha256) == (entry.size, entry.sha256):
                yield name, entry.change or WRITTEN, ""
            else:
                rows = f"{counted(found.rows, 'row')}, {entry.rows:,} when it was written"
                yield name, EDITED, f"edited by somebody since ({rows}); restore it from a backup if that was not meant"


def _aggregates(settings: Settings, dated: Sequence[Path]) -> Iterator[str]:
    """What an aggregate lacks, or has otherwise than the dated files and the ledger."""
    data = settings.data_dir
    known = {name: rows for name, rows, *_ in peek(settings)["resources"]}
    for resource, name in AGGREGATES.items():
        path, its = data / name, [one for one in dated if one.name.endswith(f"_{name}")]
        if not path.exists():
            if its or known.get(resource):
                yield f"{name}: missing; the next run that brings rows starts it again, with these rows alone"
            continue
        try:
            with workshop(data, "verify") as folder:
                rows, found = manifest.measure(behind_link(path)).rows, compare(path, resource, its, folder)
        except CollectorError as error:
            yield f"{name}: {error}"
            continue
        if found.missing:
            yield f"{name}: lacks {counted(found.missing, 'row')} of the dated files"
        if found.other:
            others = counted(found.other, "row")
            yield f"{name}: {others} otherwise than in the dated files; somebody edited one of the two"
        if found.twice:
            yield f"{name}: {counted(found.twice, 'row')} there more than once"
        if found.same and rows < known.get(resource, 0):
            yield f"{name}: {counted(rows, 'row')}, of {known[resource]:,} that the ledger knows were written to it"


def _parquet(data: Path, latest: dict[str, Entry]) -> Iterator[str]:
    """Parquet files that cannot be read, or have another number of rows than their dated file."""
    import duckdb

    resources = {folder: resource for resource, folder in TABLES.items()}
    with duckdb.connect(config={"threads": 1, "memory_limit": "64MB"}) as db:
        for path in parquet_files(data):
            name = f"parquet/{path.parent.name}/{path.name}"
            entry = latest.get(dated_name(path.stem, resources.get(path.parent.name, "conference")))
            try:
                with open(path, "rb", opener=own) as file:
                    query = "SELECT coalesce(sum(num_rows), 0)::BIGINT FROM parquet_file_metadata(?)"
                    [(rows,)] = db.execute(query, [f"/proc/self/fd/{file.fileno()}"]).fetchall()
            except (duckdb.Error, CollectorError, OSError):
                yield f"{name}: cannot be read; remove it, the next run makes it again"
                continue
            if entry and entry.change != REMOVED and rows != entry.rows:
                has = f"{counted(rows, 'row')}, {entry.rows:,} in the dated file"
                yield f"{name}: {has}; remove it, the next run makes it again"
