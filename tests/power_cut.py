"""A power cut at any moment of a run: what was not synced may be gone, and the next run makes it whole.

    make test-power-cut            (or: python -m tests.power_cut [--syncs] [SCENARIO ...])

A run is recorded by strace, SQLite's calls with it. The record is replayed on a file system that is
kept in memory, and after each change it is cut: some of what was not synced is lost, the rest goes
into a folder, and there an undisturbed run must come to what tests/test_crash.py compares.

The file system keeps no more than POSIX and ext4, XFS or ext2 all keep:
- fsync or fdatasync of a file: its bytes and its size, but not its name.
- fsync of a folder: the names that were made, renamed and removed in it.
- Everything else is lost or kept change by change and block by block (4,096 or 512 bytes), in any
  order: a name without its bytes, a size without its bytes (zeros), a later change without the earlier.
- A rename within a folder is one change. Across two it is a name made and a name removed. The name
  removed does not come first by itself, but it does where only its folder was synced.
What the run writes to its log may be lost too, and is not looked at. Modes and times are not modelled.

--syncs replays without each sync in turn, and tells those that nothing depends on. COLLECTOR=... names
another collector.py.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import Literal

from . import test_crash as crash
from .forked import MEMORY, PROGRAM, ForkedCollector
from .harness import PART, Site
from .management_node import ManagementNode

LOG = "data_collector.log"
BOUND = ("lock", LOG)
"""What no run reads except to write it again or to add to it: never lost here, as nothing depends on it."""


# Recording

CALLS = (
    "open,openat,creat,close,dup,dup2,dup3,read,lseek,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,sync,"
    "syncfs,sync_file_range,truncate,ftruncate,fallocate,copy_file_range,sendfile,splice,rename,renameat,renameat2,"
    "unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat"
)
LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+|\?)(?: .*)?")
BYTES = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


@dataclass(frozen=True)
class Op:
    """A call that succeeded. Paths are relative to the data folder, `file` is the number of an opening."""

    kind: Literal["open", "write", "truncate", "sync", "rename", "unlink", "mkdir"]
    path: str
    file: int = 0
    data: bytes = b""
    at: int | None = 0
    """Where the bytes go, None for the end; the new size; whether the opening makes the file (1) or empties it (2)."""
    to: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, self.path or "the data folder", self.to)))


@dataclass
class _Opened:
    number: int
    path: str
    append: bool
    offset: int = 0


class _Reader:
    """Operations on the folder, of what strace wrote. Knows each opening's offset, which write() does not tell."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.open: dict[int, _Opened] = {}
        self.numbers = count(1)

    def path(self, raw: str) -> str | None:
        """Relative to the folder, or None when outside it."""
        given = os.path.normpath(os.path.join(Path(self.folder).parent, raw))  # noqa: PTH118
        if given == self.folder:
            return ""
        return given.removeprefix(f"{self.folder}/") if given.startswith(f"{self.folder}/") else None

    def read(self, trace: Path) -> Iterator[Op]:
        halves: dict[str, str] = {}
        with trace.open(encoding="ascii") as lines:
            for line in lines:
                line = line.rstrip("\n")
                pid = line.split(" ", 1)[0]
                if line.endswith("<unfinished ...>"):
                    halves[pid] = line.removesuffix("<unfinished ...>")
                    continue
                if "resumed>" in line:
                    line = halves.pop(pid) + line.split("resumed>", 1)[1]
                match = LINE.fullmatch(line)
                if not match or match[4] in ("-1", "?"):
                    continue
                yield from self.call(match[2], match[3], int(match[4], 0))

    def call(self, name: str, text: str, result: int) -> Iterator[Op]:
        texts = []
        for match in BYTES.finditer(text):
            assert not match[2], f"strace cut the bytes of {name} short"
            texts.append(bytes.fromhex(match[1].replace("\\x", "")))
        args = BYTES.sub("", text).replace(" ", "").split(",")
        if name in ("open", "openat", "creat"):
            at_folder = name != "openat" or args[0] == "AT_FDCWD" or texts[0].startswith(b"/")
            base = "" if at_folder else self.base(args[0])
            path = None if base is None else self.path(os.path.join(base, os.fsdecode(texts[0])))  # noqa: PTH118
            self.open.pop(result, None)
            if path is None:
                return
            flags = text if name != "creat" else "O_CREAT|O_TRUNC"
            new = self.open[result] = _Opened(next(self.numbers), path, "O_APPEND" in flags)
            yield Op("open", path, new.number, at=2 if "O_TRUNC" in flags else 1 if "O_CREAT" in flags else 0)
            return
        if name in ("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"):
            paths = [self.path(os.fsdecode(text)) for text in texts]
            if all(path is None for path in paths):
                return
            assert None not in paths, f"{name} across the edge of the folder"
            kind = "unlink" if name == "rmdir" else name.removesuffix("2").removesuffix("at")
            yield Op(kind, paths[0] or "", to=(paths[1] or "") if len(paths) > 1 else "")  # type: ignore[arg-type]
            return
        opened = self.open.get(int(args[0], 0)) if re.match("(0x)?[0-9a-f]", args[0]) else None
        if opened is None:
            return
        if name == "close":
            del self.open[int(args[0])]
        elif name == "read":
            opened.offset += result
        elif name == "lseek":
            opened.offset = result
        elif name == "write":
            yield Op("write", opened.path, opened.number, texts[0][:result], None if opened.append else opened.offset)
            opened.offset += result
        elif name == "pwrite64":
            yield Op("write", opened.path, opened.number, texts[0][:result], int(args[-1]))
        elif name == "ftruncate":
            yield Op("truncate", opened.path, opened.number, at=int(args[-1]))
        elif name in ("fsync", "fdatasync"):
            yield Op("sync", opened.path, opened.number)
        else:
            raise AssertionError(f"{name} on {opened.path or 'the folder'}: the recording does not know this call yet")

    def base(self, descriptor: str) -> str | None:
        opened = self.open.get(int(descriptor))
        return f"{self.folder}/{opened.path}" if opened else None


def record(program: Path, data: Path, env: dict[str, str], moment: datetime, arguments: Sequence[str] = ()) -> list[Op]:
    """The operations of one run of the program, whose clock stands at the moment (UTC)."""
    clock = data.parent / "clock"
    clock.mkdir(exist_ok=True)
    stamp = moment.replace(tzinfo=UTC).timestamp()
    (clock / "sitecustomize.py").write_text(f"import time_machine\ntime_machine.travel({stamp}, tick=False).start()\n")
    trace = data.parent / "trace"
    watched = "trace=" + ",".join(f"?{name}" for name in CALLS.split(","))
    strace = ("strace", "-f", "-qq", "-xx", "-s", str(1 << 22), "--seccomp-bpf", "-e", "signal=none")
    done = subprocess.run(
        [*strace, "-e", watched, "-e", "raw=read,lseek", "-o", str(trace), sys.executable, str(program), *arguments],
        env=env | {"PYTHONPATH": str(clock), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=data.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")
    return list(_Reader(Path(os.path.realpath(data))).read(trace))


# The file system

Image = dict[str, bytes | None]
"""Files by their path, with their bytes; None for a folder."""


class Inode:
    def __init__(self, content: bytes = b"") -> None:
        self.bytes = bytearray(content)
        """What is durable."""
        self.size = len(content)
        """What it is in memory."""


class Folder(Inode):
    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, Inode] = {}
        """What is durable."""
        self.now: dict[str, Inode] = {}
        """What is in memory."""


@dataclass(eq=False)
class Change:
    """Something that a power cut may take back. Of a file: bytes at an offset, or a new size (`data` is None)."""

    where: Inode
    what: str
    data: bytes | None = None
    at: int = 0
    names: dict[str, Inode | None] = field(default_factory=dict)
    """Of a folder: what the names stand for from here on, None for nothing."""
    after: Change | None = None


Lost = dict[Change, set[int] | None]
"""The changes that the cut took back; of a write perhaps only some blocks, by their offset in the file."""


class Disk:
    def __init__(self, image: Image) -> None:
        self.root = Folder()
        self.opened: dict[int, Inode] = {}
        self.changes: list[Change] = []
        """All that is not synced, oldest first."""
        for path in sorted(image):
            parent, name = self.parent(path)
            content = image[path]
            parent.names[name] = parent.now[name] = Folder() if content is None else Inode(content)

    def find(self, path: str) -> Inode:
        inode: Inode = self.root
        for name in filter(None, path.split("/")):
            assert isinstance(inode, Folder)
            inode = inode.now[name]
        return inode

    def parent(self, path: str) -> tuple[Folder, str]:
        head, _, name = path.rpartition("/")
        parent = self.find(head)
        assert isinstance(parent, Folder)
        return parent, name

    def do(self, op: Op) -> bool:
        """Whether it changed what can be lost."""
        what = str(op)
        if op.kind == "open":
            if op.at and op.path not in ("", "."):
                parent, name = self.parent(op.path)
                if name not in parent.now:
                    self.name(parent, {name: Inode()}, what)
                elif op.at == 2 and parent.now[name].size:
                    self.resize(parent.now[name], 0, what)
            self.opened[op.file] = self.find(op.path)
            return bool(op.at)
        if op.kind == "write":
            inode = self.opened[op.file]
            at = inode.size if op.at is None else op.at
            self.changes.append(Change(inode, what, op.data, at))
            inode.size = max(inode.size, at + len(op.data))
        elif op.kind == "truncate":
            self.resize(self.opened[op.file], op.at or 0, what)
        elif op.kind == "mkdir":
            parent, name = self.parent(op.path)
            self.name(parent, {name: Folder()}, what)
        elif op.kind == "unlink":
            parent, name = self.parent(op.path)
            self.name(parent, {name: None}, what)
        elif op.kind == "rename":
            (source, old), (target, new) = self.parent(op.path), self.parent(op.to)
            inode = source.now[old]
            if source is target:
                self.name(source, {old: None, new: inode}, what)
            else:
                made = self.name(target, {new: inode}, what)
                self.name(source, {old: None}, what, made)
        else:
            self.sync(self.opened[op.file])
        return True

    def resize(self, inode: Inode, size: int, what: str) -> None:
        self.changes.append(Change(inode, what, at=size))
        inode.size = size

    def name(self, folder: Folder, names: dict[str, Inode | None], what: str, after: Change | None = None) -> Change:
        for name, inode in names.items():
            if inode is None:
                del folder.now[name]
            else:
                folder.now[name] = inode
        change = Change(folder, what, names=names, after=after)
        self.changes.append(change)
        return change

    def sync(self, inode: Inode) -> None:
        for change in [change for change in self.changes if change.where is inode]:
            self.changes.remove(change)
            if isinstance(inode, Folder):
                _rename(inode.names, change)
            else:
                _write(inode.bytes, change, set())

    def after_cut(self, lost: Lost) -> Image:
        """What is there when the power is back."""
        kept: dict[Inode, list[Change]] = {}
        for change in self.changes:
            if lost.get(change, set()) is not None:
                before = change.after
                if before is None or before not in lost or before not in self.changes:
                    kept.setdefault(change.where, []).append(change)
        image: Image = {}

        def look(folder: Folder, path: str) -> None:
            names = dict(folder.names)
            for change in kept.get(folder, ()):
                _rename(names, change)
            for name, inode in names.items():
                if isinstance(inode, Folder):
                    image[path + name] = None
                    look(inode, f"{path}{name}/")
                else:
                    content = bytearray(inode.bytes)
                    for change in kept.get(inode, ()):
                        _write(content, change, lost.get(change) or set())
                    image[path + name] = bytes(content)

        look(self.root, "")
        return image


def _rename(names: dict[str, Inode], change: Change) -> None:
    for name, inode in change.names.items():
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode


def _write(content: bytearray, change: Change, lost: set[int]) -> None:
    """Into `content`, which grows even where the bytes that made it grow are lost."""
    end = change.at + len(change.data or b"")
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if change.data is None:
        del content[change.at :]
    elif not lost:
        content[change.at : end] = change.data
    else:
        for start, stop in _blocks(change, BLOCK):
            if start not in lost:
                content[start:stop] = change.data[start - change.at : stop - change.at]


BLOCK = 512


def _blocks(change: Change, size: int) -> list[tuple[int, int]]:
    """Where a write's bytes lie in blocks of the file: from and to."""
    end = change.at + len(change.data or b"")
    edges = [change.at, *range((change.at // size + 1) * size, end, size), end]
    return list(pairwise(edges))


# Cuts


def cuts(disk: Disk, dice: random.Random, subsets: int | None) -> Iterator[tuple[str, Lost]]:
    """Ways to lose what is not synced now: all of a kind, one change, `subsets` by chance; None: the first of these."""
    changes = [c for c in disk.changes if not any(c.what.endswith(name) for name in BOUND)]
    names = [change for change in changes if change.names]
    writes = [change for change in changes if not change.names]
    yield "all of it lost", dict.fromkeys(changes)
    if not changes:
        return
    yield "all names kept, no bytes", dict.fromkeys(writes)
    yield "all names and sizes kept, no bytes", {c: {b for b, _ in _blocks(c, BLOCK)} for c in writes if c.data}
    yield "all bytes kept, no names", dict.fromkeys(names)
    yield "all names kept, of the bytes the last", dict.fromkeys(writes[:-1])
    for change in names[::-1] if len(names) > 1 else ():
        yield f"only {change.what!r} lost", {change: None}
    if subsets is None:
        return
    for change in writes[::-1]:
        yield f"only {change.what!r} lost", {change: None}
    for change in changes[::-1]:
        yield f"only {change.what!r} kept", dict.fromkeys(c for c in changes if c is not change)
    for number in range(subsets):
        lost: Lost = {}
        share = dice.choice((0.1, 0.5, 0.9))
        if number % 4 == 0:  # in order, the last one torn
            place = dice.randrange(len(changes))
            lost = dict.fromkeys(changes[place + 1 :])
            torn = [changes[place]]
        else:
            lost = {change: None for change in changes if dice.random() < share}
            torn = [change for change in writes if change not in lost and dice.random() < 0.5]
        for change in torn:
            if change.data:
                size = dice.choice((BLOCK, 4096))
                gone = [piece for piece in _blocks(change, size) if dice.random() < 0.5]
                lost[change] = {b for start, stop in gone for b, _ in _within(start, stop)}
        yield f"by chance, {number}", lost
    yield "nothing lost", {}


def _within(start: int, stop: int) -> list[tuple[int, int]]:
    return _blocks(Change(Inode(), "", bytes(stop - start), start), BLOCK)


@dataclass
class Recording:
    """A run as it went, and what it came to."""

    name: str
    env: dict[str, str]
    moment: datetime
    before: Image
    ops: list[Op]
    after: crash.Found
    aside: set[bytes]
    """What it set aside: a user's file, to be kept whatever happens."""

    def folders(
        self, subsets: int | None, seen: set[bytes], without: Container[int] = ()
    ) -> Iterator[tuple[str, Image]]:
        """Each different folder that a cut can leave and that was not `seen`, once, with how it came to be.

        `subsets` None: only where most is at stake, before a sync and after a name is changed, and fewer ways.
        """
        disk = Disk(self.before)
        for number, op in enumerate(self.ops, 1):
            if number in without or not disk.do(op):
                continue
            then = next((later for later in self.ops[number:] if later.kind != "open" or later.at), None)
            if subsets is None and then and then.kind != "sync" and op.kind not in ("rename", "unlink"):
                continue
            for how, lost in cuts(disk, random.Random(f"{self.name} {number}"), subsets):
                image = disk.after_cut(lost)
                if (state := fingerprint(image)) not in seen:
                    seen.add(state)
                    yield f"{self.name}: cut after {number} of {len(self.ops)} ({op}), {how}", image

    def syncs(self) -> dict[str, set[int]]:
        """The numbers of the operations that sync the same thing after the same thing was done."""
        found: dict[str, set[int]] = {}
        before = ""
        for number, op in enumerate(self.ops, 1):
            if op.kind == "sync":
                found.setdefault(f"{op} after {before}", set()).add(number)
            if op.kind != "open" or op.at:
                before = str(op)
        return found


def image_of(data: Path) -> Image:
    paths = sorted(data.rglob("*"))
    return {str(path.relative_to(data)): None if path.is_dir() else path.read_bytes() for path in paths}


def fingerprint(image: Image) -> bytes:
    """Of all that a run finds, save the log and the number in the lock."""
    digest = hashlib.sha256()
    for path in sorted(image):
        content = image[path]
        if not path.endswith(BOUND):
            digest.update(f"{path} {'' if content is None else len(content)}\n".encode() + (content or b""))
    return digest.digest()


def lay_out(image: Image, data: Path) -> None:
    """Fill the folder with this and nothing else."""
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    for path in sorted(image):
        content = image[path]
        if content is None:
            (data / path).mkdir()
        else:
            (data / path).write_bytes(content)


def set_aside(image: Image) -> set[bytes]:
    return {content for path, content in image.items() if "set-aside" in path and content is not None}


def not_ours(site: Site) -> None:
    """A user's file in the place of an aggregate, to be set aside."""
    crash.first_day(site)
    (site.data / PART).write_bytes(b"Name;Phone\r\nA;1\r\n")


def no_line_end(site: Site) -> None:
    """Someone's editor took the last line's end away from an aggregate, which is long."""
    crash.first_day(site)
    path = site.data / PART
    path.write_bytes(path.read_bytes().removesuffix(b"\r\n"))


def damaged(site: Site) -> None:
    """The ledger is no ledger any more."""
    crash.first_day(site)
    site.ledger.write_bytes(b"no ledger" * 1000)


SAME = ("a run with media streams", "a run after an aggregate was deleted")
"""They sync what other scenarios sync."""
SCENARIOS = {name: scenario for name, scenario in crash.SCENARIOS.items() if name not in SAME} | {
    "a run onto a file that is not ours": crash.Scenario(not_ours),
    "a run onto a file without a last line end": crash.Scenario(no_line_end),
    "a run with a damaged ledger": crash.Scenario(damaged),
}


def make_recording(
    name: str, node: ManagementNode, run: ForkedCollector, folder: Path, program: Path = PROGRAM
) -> Recording:
    """Of the run that the scenario leads to. Raises AssertionError where strace did not see all of it."""
    scenario = SCENARIOS[name]
    site = crash.prepared(scenario, node, run, folder)
    before = image_of(site.data)
    ops = record(program, site.data, site.env, scenario.moment)
    disk, after = Disk(before), image_of(site.data)
    for op in ops:
        disk.do(op)
    assert disk.after_cut({}) == after, "the recording is not whole: it does not come to the folder that the run left"
    return Recording(name, site.env, scenario.moment, before, ops, crash.contents(site), set_aside(after))


class Bench:
    """A folder in which the next run is tried."""

    def __init__(self, run: ForkedCollector, data: Path) -> None:
        self.site = Site(data, {}, None, run)
        self.data = data
        self.whole: set[bytes] = set()
        """What was right after a run already, by its fingerprint: it is not looked at again."""

    def wrong(self, recording: Recording, image: Image) -> str:
        """What the next run leaves wrong in this folder; empty when all is well."""
        lay_out(image, self.data)
        self.site.env = recording.env | {"DATA_DIR": str(self.data)}
        state = b""
        for later in (1, 2):  # the second brings nothing
            done = self.site(moment=recording.moment + timedelta(seconds=later), fork=False)
            if done.code:
                return f"exit {done.code} of run {later}: {done.output}"
            left = image_of(self.data)
            try:
                with closing(sqlite3.connect(self.site.ledger)) as db:
                    if (said := db.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                        return f"after run {later} the ledger is {said}"
                    knows = "\n".join(db.iterdump()).encode()
            except sqlite3.Error as error:
                return f"after run {later} the ledger cannot be read: {error!r}"
            now = fingerprint(left | {".collector/ledger.sqlite": knows})
            if now in self.whole:
                return ""
            try:
                found = crash.contents(self.site)
            except Exception as error:  # noqa: BLE001  whatever is wrong with a file
                return f"after run {later} a file cannot be read: {error!r}"
            if found != recording.after:
                return f"after run {later} {differences(found, recording.after)}\n{done.output}"
            state = state or now
        extra = {path for path in left if path.startswith(".collector/") and "set-aside" not in path}
        if extra != {".collector/lock", ".collector/ledger.sqlite"}:
            return f"left behind: {sorted(extra)}"
        if set_aside(left) != recording.aside:
            return f"set aside: {[path for path in left if 'set-aside' in path]}\n{done.output}"
        self.whole.add(state)
        return ""


def differences(found: crash.Found, right: crash.Found) -> str:
    said = []
    for kind in crash.NAMES:
        for place in (0, 1):
            had, should = map(repr, found[place].get(kind, [])), map(repr, right[place].get(kind, []))
            rows, good = list(had), list(should)
            if rows != good:
                lacks, more = set(good) - set(rows), set(rows) - set(good)
                where = ("the aggregate", "dated files")[place]
                said.append(f"{where} {kind}: {len(rows)} rows for {len(good)}, {len(lacks)} lost, {len(more)} foreign")
    return "; ".join(said)


def try_all(recording: Recording, bench: Bench, folders: Iterable[tuple[str, Image]], most: int) -> list[str]:
    """What went wrong; stops after `most` of them."""
    found: list[str] = []
    for how, image in folders:
        if wrong := bench.wrong(recording, image):
            found.append(f"{how}\n  {wrong}")
        if len(found) >= most:
            break
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.power_cut", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("--syncs", action="store_true", help="replay without each sync in turn")
    parser.add_argument("--subsets", type=int, default=1, help="losses by chance at each cut (default: 1)")
    asked = parser.parse_args(arguments)
    if not shutil.which("strace"):
        print("strace is missing; on Debian: apt-get install strace", file=sys.stderr)
        return 2
    total = failures = 0
    needed: dict[str, bool] = {}
    with tempfile.TemporaryDirectory(prefix="power-", dir=MEMORY) as folder:
        with crash.days() as node, ForkedCollector() as run:
            for number, name in enumerate(asked.scenarios or SCENARIOS):
                began = time.monotonic()
                place = Path(folder) / str(number)
                place.mkdir()
                recording = make_recording(name, node, run, place)
                bench = Bench(run, place / "tried")
                if asked.syncs:
                    seen: set[bytes] = set()
                    list(recording.folders(asked.subsets, seen))  # those are whole, as the target without --syncs tells
                    for sync, numbers in recording.syncs().items():
                        found = try_all(recording, bench, recording.folders(asked.subsets, set(seen), numbers), 1)
                        needed[sync] = needed.get(sync, False) or bool(found)
                        print(f"{name}: without {sync}: {found[0].splitlines()[0] if found else 'WHOLE'}", flush=True)
                    continue
                folders = list(recording.folders(asked.subsets, set()))
                found = try_all(recording, bench, folders, 10)
                for text in found:
                    print(f"WRONG {text[:1500]}", flush=True)
                total, failures = total + len(folders), failures + len(found)
                seconds = time.monotonic() - began
                print(
                    f"{name}: {len(recording.ops)} operations, {len(folders)} cuts, {len(found)} wrong, {seconds:.0f} s"
                )
    for sync, needs in needed.items():
        print(f"{'needed' if needs else 'IDLE  '} {sync}")
    if not asked.syncs:
        print(f"{total} cuts, {failures} wrong")
    return 1 if failures or not (total or needed) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
