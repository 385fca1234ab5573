"""A management node as a program: prints its address when it is ready, ends at SIGTERM.

From the repository: python -m tests.management_node --tls DIR --calls yesterday
From a copy of this folder alone: python -m management_node ...
"""

from __future__ import annotations

import argparse
import random
import signal
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from . import certificates
from .behaviour import Behaviour
from .calls import call, calls
from .node import ManagementNode
from .oauth import OAuth2
from .weeks import weeks


def main() -> None:
    options = _options()
    secret = options.secret_file.read_text().strip() if options.secret_file else options.secret
    names = dict.fromkeys((*certificates.LOOPBACK, options.host, *options.name))
    node = ManagementNode(
        tells_time=True,
        host=options.host,
        port=options.port,
        tls=not options.http,
        certificate=None if options.http else certificates.issued(*names),
        username=options.username,
        secret=secret,
        max_limit=options.max_limit,
        basic=options.basic,
        oauth2=OAuth2(options.token_seconds, options.audience) if options.client else None,
    )
    if options.client:
        client_id, file = options.client
        Path(file).write_bytes(node.oauth2.add(client_id))
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with node:
        for day in options.calls:
            node.load(calls(options.seed, day, options.conferences))
        if options.weeks:
            node.load(weeks(options.seed, options.weeks))
        if options.tls:
            options.tls.mkdir(parents=True, exist_ok=True)
            whole = options.tls / "ca.pem.new"
            whole.write_bytes(node.ca_file.read_bytes())
            whole.replace(options.tls / "ca.pem")
        print(node.address, flush=True)
        rng = random.Random(options.seed)
        while not stopped.wait(options.live):
            ended = datetime.now(UTC).replace(tzinfo=None)
            node.load([call(rng, ended, participants=rng.randint(1, 6))])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.management_node",
        description="The Management History API, as a double.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    transport = parser.add_mutually_exclusive_group(required=True)
    transport.add_argument("--tls", type=Path, metavar="DIR", help="HTTPS; ca.pem is written there")
    transport.add_argument("--http", action="store_true")
    parser.add_argument("--name", action="append", default=[], help="one more for the certificate")
    parser.add_argument("--username", default=Behaviour.username)
    password = parser.add_mutually_exclusive_group()
    password.add_argument("--secret", default=Behaviour.secret)
    password.add_argument("--secret-file", type=Path)
    parser.add_argument("--no-basic", dest="basic", action="store_false", help="no name and password is taken")
    parser.add_argument("--client", nargs=2, metavar=("ID", "FILE"), help="an OAuth2 client; its key is written there")
    parser.add_argument("--token-seconds", type=int, default=OAuth2.lifetime)
    parser.add_argument("--audience", default=OAuth2.audience, help="what the node calls itself in aud")
    parser.add_argument("--max-limit", type=int, default=Behaviour.max_limit)
    parser.add_argument(
        "--calls",
        type=_day,
        action="append",
        default=[],
        help="a day to fill with calls, yesterday or YYYY-MM-DD (UTC); may be repeated",
    )
    parser.add_argument("--weeks", type=_day, help="the last of sixty days, to fill with a company's calls")
    parser.add_argument("--conferences", type=int, default=300, help="for each day")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--live",
        type=float,
        nargs="?",
        const=20,
        metavar="SECONDS",
        help="keep adding calls that just ended, this often",
    )
    return parser.parse_args()


def _day(text: str) -> date:
    if text == "yesterday":
        return datetime.now(UTC).date() - timedelta(days=1)
    return date.fromisoformat(text)


if __name__ == "__main__":
    main()
