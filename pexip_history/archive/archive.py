"""The data folder: aggregates, dated files, and `.collector`, where files wait to be published."""

from __future__ import annotations

import csv
import fcntl
import itertools
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

from pexip_history.archive.staging import Stage
from pexip_history.errors import Busy, CollectorError, printable
from pexip_history.folder.cells import BOM, header_line
from pexip_history.folder.opening import NotAFile, behind_link, own
from pexip_history.folder.rewriting import draft_of, new_file, rewrite, sync_folder
from pexip_history.ledger.ledger import SCHEMA_VERSION, Ledger, open_ledger
from pexip_history.ledger.staged import Staged
from pexip_history.ledger.takeover import take_over
from pexip_history.node.records import CONFERENCE, KEYS, PARTICIPANT, STREAM
from pexip_history.settings.environment import Settings

FILE_NAMES = {
    CONFERENCE: "pexHistoryConf",
    PARTICIPANT: "pexHistoryPart",
    STREAM: "pexHistoryStream",
}
DATED = re.compile(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)_pexHistory(Conf|Part|Stream)\.csv")

log = logging.getLogger("collector")


class Archive:
    """One data folder."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.data = settings.data_dir
        self.folder = settings.data_dir / ".collector"
        self.resources = (CONFERENCE, PARTICIPANT, STREAM)[: 3 if settings.media_streams else 2]

    def aggregate(self, resource: str) -> Path:
        return self.data / f"{FILE_NAMES[resource]}.csv"

    def waiting(self, file: Staged) -> Path:
        return self.folder / file.name

    def dated(self, file: Staged) -> Path:
        return self.data / f"{file.stem}_{FILE_NAMES[file.resource]}.csv"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One run at a time for a data folder, by a lock on `.collector/lock`. Raises Busy."""
        with open(self.folder / "lock", "a+", opener=own) as file:
            for patience in (0.1, 0.2, 0.3, None):  # `health` holds it for an instant to see whether a run does
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if patience:
                        time.sleep(patience)
                        continue
                    file.seek(0)
                    pid = printable(file.read(20).strip()) or "unknown"
                    raise Busy(f"another run is under way (process {pid}); wait until it has ended") from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def locked(self) -> bool:
        """Whether a run holds the lock."""
        with suppress(FileNotFoundError), open(self.folder / "lock", opener=own) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    # The ledger

    def open_ledger(self, now: datetime) -> Ledger:
        """The folder's ledger; one that is new, lost, damaged or of version 1 is filled from the CSV files."""
        path = self.folder / "ledger.sqlite"
        ledger = open_ledger(self.folder)
        if ledger is None:
            journal = path.with_name(f"{path.name}-journal")
            if journal.exists():
                self.set_aside(journal, "belongs to a damaged ledger")
            self.set_aside(path, "is damaged or is not a ledger")
            ledger = open_ledger(self.folder)
            if ledger is None:
                raise CollectorError(f"{path} cannot be created again; move {self.folder} away and start another run")
        if ledger.version < SCHEMA_VERSION:
            version = ledger.version
            staged = [file for files in ledger.staged() for file in files] if version else []
            rows = {name: self._exported(name, staged) for name in (CONFERENCE, PARTICIPANT)}
            count = take_over(ledger, rows, now)
            if version:
                log.info("the ledger of version 1.0 was taken over, and the CSV files read once: %d records", count)
            elif count:
                log.warning(
                    "the ledger was rebuilt from the %d records in the CSV files; what they lack is asked for now",
                    count,
                )
        return ledger

    def _exported(self, resource: str, staged: Sequence[Staged]) -> Iterator[dict[str, str]]:
        """Every row that was exported, whichever file it is in; some come twice."""
        dated = sorted(self.data.glob(f"*_{FILE_NAMES[resource]}.csv"))
        waiting = [self.waiting(file) for file in staged if file.resource == resource]
        for path in (self.aggregate(resource), *(p for p in dated if DATED.fullmatch(p.name)), *waiting):
            yield from _rows(path, resource)

    # A run's files

    def stage(self, run: int) -> dict[str, Stage]:
        """A file for each kind of record that the run will bring."""
        stages = {}
        for resource in self.resources:
            columns = _header(self.aggregate(resource), resource) or (["participant_id"] if resource == STREAM else [])
            path = self.folder / f"{run}-{resource}.csv"
            how = (self.settings.csv_bom, self.settings.escape_formulas, self.settings.omit_columns)
            stages[resource] = Stage(path, columns, *how)
        return stages

    def finish(
        self, run: int, started: datetime, stages: dict[str, Stage], ledger: Ledger, columns: Callable[[str], list[str]]
    ) -> list[Staged]:
        """Every file of the run complete and synced, ready for the commit point.

        `columns` names those of a resource of which there was never a record.
        """
        stem, files = self._free_stem(started, ledger), []
        for resource, stage in stages.items():
            known = [] if stage.columns else columns(resource) or ["id", "end_time"]
            head = stage.finish(known)
            files.append(Staged(run, resource, stem, head, stage.rows))
        sync_folder(self.folder)
        return files

    def _free_stem(self, started: datetime, ledger: Ledger) -> str:
        """The run's start in the settings' zone, or the first second after it that no file has.

        After all of the last hour's, so that names sort as the runs do when the clock is set back an hour.
        """
        names = (DATED.fullmatch(path.name) for path in self.data.glob("*_pexHistory*.csv"))
        taken = {match[1] for match in names if match} | {file.stem for files in ledger.staged() for file in files}
        wanted = f"{started.astimezone(self.settings.zone):%Y-%m-%d_%H-%M-%S}"
        an_hour_on = f"{_wall(started, self.settings.zone) + timedelta(hours=1):%Y-%m-%d_%H-%M-%S}"
        moment = _wall(started, self.settings.zone)
        if later := [stem for stem in taken if wanted <= stem < an_hour_on]:
            moment = datetime.strptime(max(later), "%Y-%m-%d_%H-%M-%S") + timedelta(seconds=1)
        return f"{moment:%Y-%m-%d_%H-%M-%S}"

    def discard(self, ledger: Ledger) -> None:
        """Remove what a run that did not reach its commit point left."""
        wanted = {"lock", *(file.name for files in ledger.staged() for file in files)}
        for path in self.folder.iterdir():
            if path.name not in wanted and not path.name.startswith("ledger.sqlite") and path.is_file():
                path.unlink()
        for resource in KEYS:
            draft_of(self.aggregate(resource)).unlink(missing_ok=True)

    # Publishing

    def publish(self, ledger: Ledger) -> None:
        """Put every file that waits where it belongs. Raises OSError; then they go on waiting.

        Can be cut anywhere and repeated. The order is what makes it so:
        1. the aggregates are made ready, which changes none of their rows;
        2. the ledger notes their sizes;
        3. the rows are appended and synced. A repetition finds, after the noted
           size, the beginning of the same rows, and writes the rest;
        4. the waiting files are renamed to dated files: one that is gone was appended before;
        5. the ledger forgets them.
        """
        for files in ledger.staged():
            there = [file for file in files if self.waiting(file).exists()]
            sizes = {file: file.size for file in files if file.size is not None}
            if not sizes:
                for file in there:
                    self._prepare(file)
                for file in set(files) - set(there):
                    log.warning(
                        "%s is gone, and %d rows with it; restore it from a backup", self.waiting(file), file.rows
                    )
                sizes = self._note_sizes(ledger, there)
            for file in there:
                if not self._append(file, sizes[file]):
                    self._prepare(file)
                    sizes |= self._note_sizes(ledger, [file])
                    self._append(file, sizes[file], self._keys_in_aggregate(file))
            for file in there:
                self.waiting(file).replace(self.dated(file))
            sync_folder(self.data)
            sync_folder(self.folder)
            ledger.published(files)

    def _note_sizes(self, ledger: Ledger, files: Sequence[Staged]) -> dict[Staged, int]:
        sizes = {file: self.aggregate(file.resource).stat().st_size for file in files}
        ledger.begin_publishing(sizes)
        return sizes

    def _prepare(self, file: Staged) -> None:
        """Make the aggregate ready to take the file's rows.

        Its own rows stay what they are, so this can be repeated: what is not ours is set aside, a
        missing file is begun, missing columns are added, a last line gets its end.
        """
        path, resource, columns = self.aggregate(file.resource), file.resource, _columns(self.waiting(file))
        header = _header(path, resource)
        if header is None and path.exists() and (not path.is_file() or path.stat().st_size):
            self.set_aside(path, _why_not_ours(path))
        if header is None:
            with new_file(path) as target:
                target.write(header_line(columns, self.settings.csv_bom))
            if resource == STREAM:
                log.info("%s begins; streams of participants collected before are not in it", path.name)
            return
        with open(behind_link(path), "r+b", opener=own) as target:
            has_bom = target.read(3) == BOM
            place = target.seek(-2, os.SEEK_END)
            last = target.read().rstrip(b"\0")  # zeros: the line end that is written here, lost in a power cut
            if not last.endswith(b"\n"):
                target.seek(place + len(last))
                target.write(b"\n" if last.endswith(b"\r") else b"\r\n")
                target.flush()
                os.fsync(target.fileno())
        new = [name for name in columns if name not in header]
        bom = has_bom or self.settings.csv_bom
        if new or bom != has_bom:
            what = [f"the new columns {', '.join(new)}"] if new else []
            what += ["a byte order mark (DATA_CSV_BOM)"] if bom != has_bom else []
            with new_file(path) as target:
                rewrite(path, target, header, header + new, bom)
            log.info("%s got %s", path.name, " and ".join(what))

    def _append(self, file: Staged, size: int, there: set[tuple[str, ...]] | None = None) -> bool:
        """Append the rows behind `size`, or what is still missing of them; `there` are keys of rows to leave out.

        False where something else is there by now: someone changed the file in mid-publishing.
        """
        path, source, start = self.aggregate(file.resource), self.waiting(file), file.head
        header, columns = _header(path, file.resource), _columns(source)
        if header is None or not set(columns) <= set(header):
            return False
        if header != columns or there:  # the user's file has another order
            source, start = self._reordered(file, header, there or set()), len(header_line(header, False))
        # Unbuffered: what a full disk refused must not be tried again when the file is closed.
        with source.open("rb") as rows, open(behind_link(path), "r+b", buffering=0, opener=own) as target:
            rows.seek(start)
            end = target.seek(0, os.SEEK_END)
            target.seek(size)
            if end < size or not _is_prefix(target, rows):
                return False
            rows.seek(start)  # from the beginning: of what is there a power cut may have lost parts
            target.seek(size)
            try:
                while piece := memoryview(rows.read(1 << 20)):
                    while piece:
                        piece = piece[target.write(piece) :]
                os.fsync(target.fileno())
            except BaseException:  # a full disk, SIGTERM: no half of a row stays
                with suppress(OSError):
                    os.ftruncate(target.fileno(), end)
                raise
        return True

    def _reordered(self, file: Staged, columns: Sequence[str], there: set[tuple[str, ...]]) -> Path:
        """A copy of the waiting rows under the aggregate's columns, without those that it has."""
        path, keys = self.folder / f"{file.name}.ordered", _keys(file.resource)
        with open(path, "wb", opener=own) as target:
            rewrite(
                self.waiting(file),
                target,
                _columns(self.waiting(file)),
                columns,
                False,
                lambda row: tuple(row.get(key, "") for key in keys) in there,
            )
        return path

    def _keys_in_aggregate(self, file: Staged) -> set[tuple[str, ...]]:
        """The keys of the aggregate's whole rows that the file has too."""
        ours, theirs = (
            _whole_keys(path, file.resource) for path in (self.waiting(file), self.aggregate(file.resource))
        )
        wanted = set(ours)
        return {key for key in theirs if key in wanted}

    def set_aside(self, path: Path, why: str) -> None:
        """Give a file that we cannot go on with another name."""
        stamp = datetime.now(self.settings.zone).strftime("%Y-%m-%d_%H-%M-%S")
        for number in itertools.count():
            other = path.with_name(f"{path.name}.set-aside-{stamp}{f'-{number}' if number else ''}")
            if not other.exists():
                break
        path.rename(other)
        sync_folder(path.parent)
        log.warning("%s %s; it was renamed to %s and a new one is started", path.name, why, other.name)

    def expire(self, now: datetime) -> None:
        """Remove dated files older than DATA_KEEP_DAYS."""
        if not self.settings.keep_days:
            return
        oldest = (now - timedelta(days=self.settings.keep_days)).astimezone(self.settings.zone)
        for path in self.data.glob("*_pexHistory*.csv"):
            match = DATED.fullmatch(path.name)
            if match and match[1] < f"{oldest:%Y-%m-%d_%H-%M-%S}":
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    log.warning("%s cannot be removed (%s); DATA_KEEP_DAYS asks for it", path.name, error.strerror)


def _read(path: Path) -> IO[str]:
    """One of our CSV files, whatever a user made of its bytes. Raises NotAFile, OSError."""
    return open(behind_link(path), encoding="utf-8-sig", errors="replace", newline="", opener=own)


def _wall(moment: datetime, zone: object) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)  # type: ignore[arg-type]


def _keys(resource: str) -> list[str]:
    """The columns that distinguish a row from every other: a stream has its own id besides its participant's."""
    return list(dict.fromkeys((*KEYS[resource], "id")))


def _columns(path: Path) -> list[str]:
    """The header of a file of ours."""
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return next(csv.reader(lines))


def _header(path: Path, resource: str) -> list[str] | None:
    """The file's columns; None where there is none, or one that is not ours."""
    try:
        with _read(path) as lines:
            header = next(csv.reader(lines), [])
    except FileNotFoundError:
        return None
    except (csv.Error, NotAFile):
        if behind_link(path).is_dir():
            raise
        return None
    return header if set(KEYS[resource]) <= set(header) else None


def _rows(path: Path, resource: str) -> Iterator[dict[str, str]]:
    """The file's rows by column name, every one with the keys and `end_time`; none where it is not ours."""
    header = _header(path, resource)
    if header is None:
        return
    blank = dict.fromkeys((*KEYS[resource], "end_time"), "")
    with _read(path) as lines:
        reader = csv.reader(lines)
        next(reader)
        for row in reader:
            yield blank | dict(zip(header, row, strict=False))


def _whole_keys(path: Path, resource: str) -> Iterator[tuple[str, ...]]:
    """The keys of the file's rows, but for those that were cut."""
    header = _header(path, resource) or []
    places = [header.index(name) if name in header else None for name in _keys(resource)]
    with _read(path) as lines:
        for row in csv.reader(lines):
            if len(row) >= len(header):
                yield tuple("" if place is None else row[place] for place in places)


def _is_prefix(target: IO[bytes], rows: IO[bytes]) -> bool:
    """Whether the rest of `target` begins `rows`. Bytes that a power cut lost are zeros there: they count as equal."""
    while piece := target.read(1 << 20):
        wanted = rows.read(len(piece))
        if len(wanted) < len(piece) or (
            wanted != piece and any(byte not in (0, right) for byte, right in zip(piece, wanted, strict=True))
        ):
            return False
    return True


def _why_not_ours(path: Path) -> str:
    if not path.is_file():
        return "is no regular file"
    with path.open("rb") as file:
        first = file.readline(1 << 16)
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is UTF-16, not UTF-8"
    if first.count(b";") > first.count(b","):
        return "was saved with semicolons"
    return "has no header with the columns of the history"
