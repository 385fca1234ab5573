"""What must hold before a run can go well, a line each."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from pexip_history.errors import DONE, FAILED, QUOTED, CollectorError, Refused, TooLarge, explain, printable
from pexip_history.folder.opening import own, own_folder
from pexip_history.node.answers import PageReader, decode
from pexip_history.node.api import Node
from pexip_history.node.connection import describe, peer_certificate
from pexip_history.operate.notify import described, try_all
from pexip_history.settings.environment import IMAGE_DATA, Settings


def check(settings: Settings, notify: bool = False) -> int:
    """One line for each thing that must hold: ok, or how to fix it."""
    node = Node(settings)
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("settings", lambda: "all valid"),
        ("name", lambda: _check_name(settings)),
        ("TLS", lambda: describe(peer_certificate(settings, verify=True))),
        ("credentials", lambda: _check_credentials(settings, node)),
        ("history", lambda: _check_history(node)),
        ("clock", lambda: _check_clock(node)),
        ("data folder", lambda: _check_folder(settings)),
        ("schedule", lambda: _check_schedule(settings)),
        *((("told of failures", lambda: described(settings)),) if notify or _tells(settings) else ()),
    )
    failed, node_fails = False, False
    for label, look in checks:
        if node_fails and label in ("TLS", "credentials", "history", "clock"):
            continue
        try:
            _say(label, True, look())
        except Exception as error:  # noqa: BLE001 - whatever a stranger's answer brings, the other lines come too
            failed = True
            node_fails = node_fails or label in ("name", "TLS", "credentials")
            _say(label, False, explain(error, settings.data_dir))
    for label, taken, sentence in try_all(settings) if notify else ():
        failed = failed or not taken
        _say(label, taken, sentence)
    return FAILED if failed else DONE


def _tells(settings: Settings) -> bool:
    return bool(settings.ping_url or settings.notify_urls)


def _say(label: str, good: bool, text: str) -> None:
    mark = "ok  " if good else "FAIL"
    if sys.stdout.isatty():
        mark = f"\033[{32 if good else 31}m{mark}\033[0m"
    print(f"{mark} {label}: {printable(text)}")


def _check_name(settings: Settings) -> str:
    import socket

    host = urlsplit(f"https://{settings.address}").hostname or ""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        raise CollectorError("the name is not known; check DEFAULT_MGR_ADDRESS and the container's DNS") from None
    return f"{host} is {', '.join(sorted(found))}"


def _check_credentials(settings: Settings, node: Node) -> str:
    for resource in ("conference", "participant"):
        node.ask(f"{node.root}{resource}/?limit=1", decode)
    return f"{node.describe()}; may read the history"


def _check_history(node: Node) -> str:
    try:
        meta, columns = node.ask(f"{node.root}conference/?limit=0", PageReader())
    except TooLarge:  # which is how many a page may have
        meta, columns = node.ask(f"{node.root}conference/?limit=1", PageReader())
        meta["limit"] = "more than one answer may have"
    ends = sorted(str(end) for end in columns.get("end_time", ()) if end)
    if not ends:
        return "the node has no conference yet"
    with suppress(Refused, IndexError):
        ends = [node.page("conference", {"limit": "1", "order_by": f"{sign}end_time"}).times[0] for sign in ("", "-")]
    count, most, first, last = (
        printable(str(text), QUOTED) for text in (meta.get("total_count"), meta.get("limit"), ends[0], ends[-1])
    )
    return f"{count} conferences, ended {first} to {last} UTC; at most {most} a page"


def _check_clock(node: Node) -> str:
    skew = node.clock_skew
    if skew is None:
        return "the node does not tell its time"
    seconds = round(skew.total_seconds())
    if not node.clocks_agree:
        raise CollectorError(f"the node's clock is {seconds} s off this machine's; set them alike (NTP)")
    return f"{abs(seconds)} s apart from the node's"


def _check_folder(settings: Settings) -> str:
    folder = settings.data_dir
    probe = folder / ".collector" / "probe"
    own_folder(probe.parent)
    open(probe, "wb", opener=own).close()
    probe.unlink()
    stat, usage = folder.stat(), shutil.disk_usage(folder)
    mount = "" if is_mount(folder) else "; NOT a mount: the files are deleted with the container"
    return f"{folder}, owner {stat.st_uid}:{stat.st_gid}, {usage.free / 1e9:.1f} GB free{mount}"


def is_mount(folder: Path) -> bool:
    """False where it is the image's folder and nothing is mounted there."""
    folder = Path(os.path.realpath(folder))
    if folder != IMAGE_DATA:
        return True
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        points = {line.split()[4] for line in mounts}
        return any(str(parent) in points for parent in (folder, *folder.parents) if str(parent) != "/")
    return True


def _check_schedule(settings: Settings) -> str:
    if settings.schedule is None:
        return "none (DATA_CRON_TIME is not set), which is right if another scheduler starts the runs"
    times, moment = [], datetime.now(UTC)
    for _ in range(3):
        moment = settings.schedule.next(moment)
        times.append(f"{moment.astimezone(settings.zone):%Y-%m-%d %H:%M}")
    return f"{settings.schedule.in_words()}; next {', '.join(times)} ({settings.zone})"
