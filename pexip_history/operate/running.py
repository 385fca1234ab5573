"""With which settings the container runs that schedules the runs, left in the data folder for a later `check`.

The file holds no secret, nor anything from which one could be guessed: of a variable that has one, whether it is set.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pexip_history import __version__
from pexip_history.errors import QUOTED, CollectorError, printable
from pexip_history.folder.mounts import mount_points
from pexip_history.folder.opening import own, own_folder
from pexip_history.messages import sentence
from pexip_history.settings.environment import NAMES, SECRETS
from pexip_history.settings.values import unquoted

PLACE, NOTE, FAILURE = Path(".collector", "container"), "settings.json", "failure"
"""A folder of its own, since a run removes what no run left in `.collector`."""
LARGEST_NOTE = 1 << 16  # bytes
HIDDEN = {name for name in SECRETS if not name.endswith("_FILE")}


def note(folder: Path, environ: Mapping[str, str]) -> None:
    """Leave in the data folder what this container runs with. Raises CollectorError, OSError."""
    place = folder / PLACE
    own_folder(place.parent)
    own_folder(place)
    started = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    with open(place / NOTE, "w", encoding="utf-8", opener=own) as file:
        json.dump({"started": started, "version": __version__, **described(environ)}, file)


def note_failure(folder: Path, text: str) -> None:
    """Leave what the check at the container's start found wrong, for `health`. Raises CollectorError, OSError."""
    with open(folder / PLACE / FAILURE, "w", encoding="utf-8", opener=own) as file:
        file.write(text)


def failure(folder: Path) -> tuple[datetime, str] | None:
    """When (UTC) the check at the start found something wrong, and what; None where it did not."""
    with suppress(OSError, CollectorError), open(folder / PLACE / FAILURE, "rb", opener=own) as file:
        if text := file.read(LARGEST_NOTE).decode(errors="replace"):
            return datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC), text
    return None


def forget(folder: Path) -> None:
    """The container stops, and with it what it runs with. No link is followed."""
    opened: list[int] = []
    with suppress(OSError):
        opened.append(os.open(folder, os.O_PATH | os.O_DIRECTORY))
        for part in PLACE.parts:
            opened.append(os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=opened[-1]))
        os.unlink(NOTE, dir_fd=opened[-1])
    for descriptor in opened:
        os.close(descriptor)


def described(environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The settings as they are given, and which of the files that they name are mounted one by one."""
    given = {name: text for name in NAMES if (text := unquoted(environ.get(name, "")))}
    settings = {name: "set" if name in HIDDEN else text for name, text in given.items()}
    points, files = mount_points(), {}
    for name, text in settings.items():
        with suppress(OSError, ValueError):
            # A file that is mounted by itself stays the one that it was when the container was made.
            if name.endswith("_FILE") and text in points:
                files[name] = str(Path(text).stat().st_ino)
    return {"settings": settings, "files": files}


def differences(folder: Path, environ: Mapping[str, str]) -> tuple[str, list[str], list[str]] | None:
    """Since when the container runs, what it has otherwise than this process, and the secrets that nobody can compare.

    None where no container has left a note. Raises CollectorError, OSError.
    """
    try:
        noted = _read(folder / PLACE / NOTE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    here = described(environ)
    found = [
        f"{name} ({_shown(there)}, here {_shown(ours)})"
        for name in NAMES
        if (there := noted["settings"].get(name, "")) != (ours := here["settings"].get(name, ""))
    ]
    found += [
        f"{name} (the file was replaced, the container still has the old one)"
        for name in NAMES
        if noted["files"].get(name, here["files"].get(name)) != here["files"].get(name)
    ]
    if noted["version"] != __version__:
        found.insert(0, f"version {_shown(noted['version'])}, here {__version__}")
    return noted["started"], found, sorted(HIDDEN & noted["settings"].keys() & here["settings"].keys())


def _read(path: Path) -> dict[str, Any]:
    with open(path, "rb", opener=own) as file:
        held = file.read(LARGEST_NOTE)
    try:
        noted = json.loads(held)
        texts = [noted["started"], noted["version"], *noted["settings"].values(), *noted["files"].values()]
        if all(isinstance(text, str) for text in texts):
            return dict(noted)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise CollectorError(sentence("container-note-damaged", file=path))


def _shown(text: str) -> str:
    return repr(printable(text, QUOTED)) if text else "not set"
