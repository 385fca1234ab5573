"""The data folder: aggregates, dated files, and `.collector`, where files wait to be published."""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from pexip_history.archive import aggregates
from pexip_history.archive.staging import Stage, follow_omitted
from pexip_history.errors import Busy, CollectorError, printable
from pexip_history.folder.cells import header_line
from pexip_history.folder.names import AGGREGATES, DATED, STAGED, dated_name, format_stem, staged_name
from pexip_history.folder.opening import own
from pexip_history.folder.reading import header
from pexip_history.folder.rewriting import draft_of, rewrite, sync_folder
from pexip_history.ledger.ledger import Known, Ledger, Staged
from pexip_history.ledger.rewritten import as_it_is
from pexip_history.messages import sentence
from pexip_history.resources import BY_NAME, FILES, OF_PARTICIPANTS, PARTICIPANT, QUALITY, STREAM
from pexip_history.settings.environment import Settings

FIRST_COLUMNS = {
    STREAM.name: ("participant_id",),
    QUALITY.name: ("participant_id", "start_time", "bucketed_call_quality", "historic_call_quality"),
}
"""Of files whose rows have more than one record's fields."""
LEFT_BEHIND = re.compile(rf"{STAGED.pattern}(\.ordered|\.new)?")
"""What a reading that was cut leaves in `.collector`."""

log = logging.getLogger("collector")


class Archive:
    """One data folder."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.zone = settings.zone
        self.data = settings.data_dir
        self.folder = settings.data_dir / ".collector"
        self._staged_here: set[int] = set()
        self.resources = tuple(
            resource
            for resource in FILES
            if not resource.optional or (settings.media_streams if resource in OF_PARTICIPANTS else settings.events)
        )

    def aggregate(self, resource: str) -> Path:
        return self.data / AGGREGATES[resource]

    def waiting(self, file: Staged) -> Path:
        return self.folder / file.name

    def waits(self, file: Staged) -> bool:
        return os.path.lexists(self.waiting(file))

    def dated(self, file: Staged) -> Path:
        return self.data / dated_name(file.stem, file.resource)

    def dated_files(self) -> dict[str, str]:
        """The dated files in the folder: their names, and the resources' stems."""
        with os.scandir(self.data) as entries:
            return {entry.name: match[2] for entry in entries if (match := DATED.fullmatch(entry.name))}

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
                    raise Busy(sentence("another-run", process=pid)) from None
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

    # A reading's files

    def stage(self, pair: int) -> dict[str, Stage]:
        """A file for each kind of record that a reading may bring."""
        self._staged_here.add(pair)
        stages = {}
        for resource in self.resources:
            name, path = resource.name, self.folder / staged_name(pair, resource.name)
            columns = aggregates.columns_of(self.aggregate(name), name) or FIRST_COLUMNS.get(name, ())
            stages[name] = Stage(path, columns, self.settings)
        return stages

    def finish(
        self,
        pair: int,
        started: datetime,
        stages: Mapping[str, Stage],
        ledger: Ledger,
        columns: Callable[[str], list[str]],
    ) -> list[Staged]:
        """Every file of the reading complete and synced, ready for the commit point.

        `columns` names those of a resource of which there was never a record.
        """
        stem, files = self._free_stem(started, ledger), []
        for resource, stage in stages.items():
            if not stage.columns:
                stage.grow(columns(resource) or ["id", "end_time"])
            files.append(Staged(pair, resource, stem, stage.finish(), stage.rows))
        sync_folder(self.folder)
        return files

    def _free_stem(self, started: datetime, ledger: Ledger) -> str:
        """The run's start in the settings' zone, or the first second after it that no file has.

        After all of the last hour's, so that names sort as the runs do when the clock is set back an hour.
        """
        taken = {name[:19] for name in self.dated_files()}
        taken |= {file.stem for file in ledger.staged()}
        moment = started.astimezone(self.zone).replace(tzinfo=None)
        wanted, an_hour_on = format_stem(moment), format_stem(moment + timedelta(hours=1))
        last = max((stem for stem in taken if wanted <= stem < an_hour_on), default="")
        while (stem := format_stem(moment)) in taken or stem <= last:
            moment += timedelta(seconds=1)
        return stem

    def discard(self, ledger: Ledger) -> None:
        """Remove what a reading that did not reach its commit point left."""
        wanted = {file.name for file in ledger.staged()}
        for path in self.folder.iterdir():
            if LEFT_BEHIND.fullmatch(path.name) and path.name not in wanted:
                path.unlink()
        for resource in FILES:
            draft_of(self.aggregate(resource.name)).unlink(missing_ok=True)

    # Publishing

    def publish(self, ledger: Ledger) -> None:
        """Put every file that waits where it belongs. Raises OSError; then they go on waiting.

        Can be cut anywhere and repeated. The order is what makes it so:
        1. what an earlier run wrote follows DATA_OMIT_COLUMNS as it is by now; the
           aggregates are made ready, which changes none of their rows;
        2. the ledger notes their sizes;
        3. the rows are appended and synced. A repetition finds, after the noted
           size, the beginning of the same rows, and writes the rest;
        4. the waiting files are renamed to dated files: of one that is gone, the dated file tells the rows;
        5. the ledger forgets them, and knows the dated files and the aggregates' sizes.
        """
        for _, reading in itertools.groupby(ledger.staged(), lambda file: file.pair):
            files = list(reading)
            there = [file for file in files if self.waits(file)]
            sizes = {file: file.size for file in files if file.size is not None}
            if not sizes:
                for file in there:
                    if self.settings.omit_columns and file.pair not in self._staged_here:
                        follow_omitted(self.waiting(file), self.settings.omit_columns)
                    self._prepare(file, ledger)
                for file in set(files) - set(there):
                    log.warning(sentence("staged-rows-gone", file=self.waiting(file), rows=file.rows))
                by_key = ledger.fact("by_key")  # then none begins behind a known end
                sizes = {file: 0 if by_key else self.aggregate(file.resource).stat().st_size for file in there}
                ledger.begin_publishing(sizes)
            known = dict(filter(None, (self._append_once(file, size, ledger) for file, size in sizes.items())))
            for file in there:
                self.waiting(file).replace(self.dated(file))
            sync_folder(self.data)
            sync_folder(self.folder)
            ledger.published(files, [self.dated(file).name for file in files], known)
        if ledger.fact("by_key"):
            ledger.note(by_key=None)

    def _append_once(self, file: Staged, size: int, ledger: Ledger) -> tuple[str, Known] | None:
        """Have the aggregate hold the file's rows behind `size`; what it is then, by resource.

        None where the rows were there once, and somebody has made another of it, or of the dated file, since.
        """
        path = self.aggregate(file.resource)
        if not self.waits(file):  # it was renamed after they were appended
            with suppress(CollectorError, OSError):
                if self._append(file, self.dated(file), size):
                    return file.resource, as_it_is(path)
            return None
        if not self._append(file, self.waiting(file), size):
            self._prepare(file, ledger)
            ledger.begin_publishing({file: 0})  # a repetition comes here again: what is there tells the keys
            self._append(file, self.waiting(file), path.stat().st_size, self._keys_in_aggregate(file))
        return file.resource, as_it_is(path)

    def _prepare(self, file: Staged, ledger: Ledger) -> None:
        path, columns = self.aggregate(file.resource), header(self.waiting(file)) or []
        if file.resource == STREAM.name and not path.exists() and ledger.rows(PARTICIPANT.name):
            log.info("%s begins; streams of participants collected before are not in it", path.name)
        with suppress(FileNotFoundError):
            aggregates.end_whole(path, BY_NAME[file.resource], ledger, self.zone)
        aggregates.prepare(path, file, columns, self.settings.csv_bom, self.zone)

    def _append(self, file: Staged, source: Path, size: int, there: set[tuple[str, ...]] | None = None) -> bool:
        """Append the rows; `there` are keys of rows to leave out. False where the aggregate was changed."""
        path, start, own_columns = self.aggregate(file.resource), file.head, header(source) or []
        columns = aggregates.columns_of(path, file.resource)
        if columns is None or not set(own_columns) <= set(columns):
            return False
        if columns != own_columns or there:  # the user's file has another order
            key, ordered = BY_NAME[file.resource].key, self.folder / f"{file.name}.ordered"
            with open(ordered, "wb", opener=own) as target:
                drop = (lambda row: tuple(row.get(name, "") for name in key) in there) if there else None
                rewrite(source, target, own_columns, columns, False, drop)
            source, start = ordered, len(header_line(columns, False))
        return aggregates.append(path, source, start, size)

    def _keys_in_aggregate(self, file: Staged) -> set[tuple[str, ...]]:
        """The keys of the aggregate's whole rows that the file has too."""
        wanted = set(aggregates.keys(self.waiting(file), file.resource))
        return {key for key in aggregates.keys(self.aggregate(file.resource), file.resource) if key in wanted}

    # Keeping

    def expire(self, now: datetime, names: Collection[str]) -> list[str]:
        """Remove of these dated files those that are older than DATA_KEEP_DAYS; their names."""
        gone: list[str] = []
        if not self.settings.keep_days:
            return gone
        oldest = format_stem((now - timedelta(days=self.settings.keep_days)).astimezone(self.zone))
        for name in sorted(names):
            if name < oldest:
                try:
                    (self.data / name).unlink(missing_ok=True)
                    gone.append(name)
                except OSError as error:
                    log.warning(sentence("old-file-stays", file=name, why=error.strerror))
        return gone
