"""A management node as a program: prints its address when it is ready, ends at SIGTERM.

python -m tests.management_node --tls DIR --calls yesterday
"""

from __future__ import annotations

import argparse
import random
import signal
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from . import certificates
from .calls import call, calls
from .node import ManagementNode


def main() -> None:
    options = _options()
    names = dict.fromkeys((*certificates.LOOPBACK, options.host, *options.name))
    node = ManagementNode(
        tells_time=True,
        host=options.host,
        port=options.port,
        certificate=certificates.issued(*names),
    )
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with node:
        if options.calls:
            node.load(calls(1, options.calls))
        options.tls.mkdir(parents=True, exist_ok=True)
        whole = options.tls / "ca.pem.new"
        whole.write_bytes(node.ca_file.read_bytes())
        whole.replace(options.tls / "ca.pem")
        print(node.address, flush=True)
        rng = random.Random(1)
        while not stopped.wait(options.live):
            ended = datetime.now(UTC).replace(tzinfo=None)
            node.load([call(rng, ended, participants=rng.randint(1, 6))])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.management_node", description="The History API, as a double."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--tls", type=Path, metavar="DIR", required=True, help="ca.pem is written there")
    parser.add_argument("--name", action="append", default=[], help="one more for the certificate")
    parser.add_argument("--calls", type=_day, help="a day to fill with calls, yesterday or YYYY-MM-DD (UTC)")
    parser.add_argument("--live", type=float, metavar="SECONDS", help="keep adding calls that just ended, this often")
    return parser.parse_args()


def _day(text: str) -> date:
    return datetime.now(UTC).date() - timedelta(days=1) if text == "yesterday" else date.fromisoformat(text)


if __name__ == "__main__":
    main()
