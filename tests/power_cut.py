"""A power cut at any moment of a run, on a file system that is kept in memory.

A run is recorded by strace, SQLite's calls with it. The record is replayed, and after each change it is cut: some of
what was not synced is lost, and the rest goes into a folder, where an undisturbed run is to make it whole.

The file system keeps no more than POSIX and ext4, XFS or ext2 all keep:
- fsync or fdatasync of a file: its bytes and its size, but not its name.
- fsync of a folder: the names that were made, renamed and removed in it.
- Everything else is lost or kept change by change and block by block, in any order: a name without its bytes, a size
  without its bytes (zeros), a later change without the earlier.
- A rename within a folder is one change. Across two it is a name made and a name removed. The name removed does not
  come first by itself, but it does where only its folder was synced.
What the run writes to its log may be lost too, and is not looked at. Modes and times are not modelled.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from itertools import count, groupby, pairwise
from pathlib import Path
from typing import Literal

from .harness import Site

BOUND = ("lock", "data_collector.log")
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
        assert not any(match[2] for match in BYTES.finditer(text)), f"strace cut the bytes of {name} short"
        texts = [bytes.fromhex(match[1].replace("\\x", "")) for match in BYTES.finditer(text)]
        args = BYTES.sub("", text).replace(" ", "").split(",")
        if name in ("open", "openat", "creat"):
            at_folder = name != "openat" or args[0] == "AT_FDCWD" or texts[0].startswith(b"/")
            assert at_folder or int(args[0]) not in self.open, "openat within the folder: not known here yet"
            path = self.path(os.fsdecode(texts[0])) if at_folder else None
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
    op: Op
    data: bytes | None = None
    at: int = 0
    names: dict[str, Inode | None] = field(default_factory=dict)
    """Of a folder: what the names stand for from here on, None for nothing."""
    after: Change | None = None


Lost = dict[Change, bool]
"""The changes that the cut took back; true: its bytes alone, and the size that they gave the file is there."""
BLOCK = 512


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
        if op.kind == "open":
            if op.at and op.path not in ("", "."):
                parent, name = self.parent(op.path)
                if name not in parent.now:
                    self.name(parent, {name: Inode()}, op)
                elif op.at == 2 and parent.now[name].size:
                    self.resize(parent.now[name], 0, op)
            self.opened[op.file] = self.find(op.path)
            return bool(op.at)
        if op.kind == "write":
            inode = self.opened[op.file]
            at = inode.size if op.at is None else op.at
            end = at + len(op.data)
            edges = [at, *range((at // BLOCK + 1) * BLOCK, end, BLOCK), end]
            self.changes += [Change(inode, op, op.data[a - at : b - at], a) for a, b in pairwise(edges)]
            inode.size = max(inode.size, end)
        elif op.kind == "truncate":
            self.resize(self.opened[op.file], op.at or 0, op)
        elif op.kind in ("mkdir", "unlink"):
            parent, name = self.parent(op.path)
            self.name(parent, {name: Folder() if op.kind == "mkdir" else None}, op)
        elif op.kind == "rename":
            (source, old), (target, new) = self.parent(op.path), self.parent(op.to)
            inode = source.now[old]
            if source is target:
                self.name(source, {old: None, new: inode}, op)
            else:
                made = self.name(target, {new: inode}, op)
                self.name(source, {old: None}, op, made)
        else:
            self.sync(self.opened[op.file])
        return True

    def resize(self, inode: Inode, size: int, op: Op) -> None:
        self.changes.append(Change(inode, op, at=size))
        inode.size = size

    def name(self, folder: Folder, names: dict[str, Inode | None], op: Op, after: Change | None = None) -> Change:
        change = Change(folder, op, names=names, after=after)
        _rename(folder.now, change)
        self.changes.append(change)
        return change

    def sync(self, inode: Inode) -> None:
        for change in [change for change in self.changes if change.where is inode]:
            self.changes.remove(change)
            if isinstance(inode, Folder):
                _rename(inode.names, change)
            else:
                _write(inode.bytes, change)

    def after_cut(self, lost: Lost) -> Image:
        """What is there when the power is back."""
        kept: dict[Inode, list[Change]] = {}
        for change in self.changes:
            if lost.get(change, True):
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
                        _write(content, change, change in lost)
                    image[path + name] = bytes(content)

        look(self.root, "")
        return image


def _rename(names: dict[str, Inode], change: Change) -> None:
    for name, inode in change.names.items():
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode


def _write(content: bytearray, change: Change, bytes_lost: bool = False) -> None:
    """Into `content`, which grows even where the bytes that made it grow are lost."""
    end = change.at + len(change.data or b"")
    content.extend(bytes(max(end - len(content), 0)))
    if change.data is None:
        del content[change.at :]
    elif not bytes_lost:
        content[change.at : end] = change.data


# Cuts


def cuts(disk: Disk, dice: random.Random, subsets: int | None) -> Iterator[tuple[str, Lost]]:
    """Ways to lose what is not synced now: all of a kind, one step, `subsets` by chance; None: the first of these."""
    changes = [change for change in disk.changes if not str(change.op).endswith(BOUND)]
    steps = [list(of_one) for _, of_one in groupby(changes, lambda change: change.op)]
    names = [change for change in changes if change.names]
    writes = [change for change in changes if not change.names]
    yield "all of it lost", dict.fromkeys(changes, False)
    if not changes:
        return
    yield "all names kept, no bytes", dict.fromkeys(writes, False)
    yield "all names and sizes kept, no bytes", dict.fromkeys((change for change in writes if change.data), True)
    yield "all bytes kept, no names", dict.fromkeys(names, False)
    yield "all names kept, of the bytes the last", dict.fromkeys((c for c in writes if c.op != writes[-1].op), False)
    for step in steps[::-1]:
        if subsets is not None or (step[0].names and len(names) > 1):
            yield f"only {step[0].op} lost", dict.fromkeys(step, False)
    if subsets is None:
        return
    for step in steps[::-1]:
        yield f"only {step[0].op} kept", dict.fromkeys((change for change in changes if change not in step), False)
    for number in range(subsets):
        share = dice.choice((0.1, 0.5, 0.9))
        place = dice.randrange(len(changes))  # in order, the last step perhaps torn
        some = changes[place:] if number % 4 == 0 else [change for change in changes if dice.random() < share]
        yield f"by chance, {number}", {change: bool(change.data) and dice.random() < 0.5 for change in some}
    yield "nothing lost", {}


@dataclass
class Recording:
    """A run as it went, from a folder as it was."""

    before: Image
    ops: list[Op]

    def folders(self, subsets: int | None, seen: set[int], without: Container[int] = ()) -> Iterator[tuple[str, Image]]:
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
            for how, lost in cuts(disk, random.Random(number), subsets):
                image = disk.after_cut(lost)
                if (state := fingerprint(image)) not in seen:
                    seen.add(state)
                    yield f"cut after {number} of {len(self.ops)} ({op}), {how}", image


def record(site: Site, *arguments: str) -> Recording:
    """One command at the site's moment. Raises AssertionError where strace did not see all of it."""
    before, trace = image_of(site.data), site.data.parent / "trace"
    watched = "trace=" + ",".join(f"?{name}" for name in CALLS.split(","))
    strace = ("strace", "-f", "-qq", "-xx", "-s", str(1 << 22), "--seccomp-bpf", "-e", "signal=none", "-e", watched)
    with site.start(*arguments, under=(*strace, "-e", "raw=read,lseek", "-o", str(trace))) as process:
        said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    recording = Recording(before, list(_Reader(Path(os.path.realpath(site.data))).read(trace)))
    disk = Disk(before)
    for op in recording.ops:
        disk.do(op)
    assert disk.after_cut({}) == image_of(site.data), "the record does not come to the folder that the run left"
    return recording


def image_of(data: Path) -> Image:
    paths = sorted(data.rglob("*"))
    return {str(path.relative_to(data)): None if path.is_dir() else path.read_bytes() for path in paths}


def fingerprint(image: Image) -> int:
    """Of all that a run finds, save the log and the number in the lock."""
    return hash(tuple(one for one in sorted(image.items()) if not one[0].endswith(BOUND)))


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
