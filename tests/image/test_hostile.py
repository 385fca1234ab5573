"""A node that wants to bring the container down: its memory is the one that compose.yaml gives it."""

from __future__ import annotations

import time

from tests.raw_node import RawNode, conferences, listing, reply, zipped

from .conftest import Engine

PATIENCE = "import collector, os, sys; from pexip_history.node import api, connection; connection.LONGEST_ANSWER = 2.0"
ENDS = "; api.PATIENCE = 1.0; sys.exit(collector.main(['collect', '--from', '2020-01-01'], dict(os.environ)))"


def attacked(engine: Engine, node: RawNode) -> tuple[int, str]:
    settings = engine.settings(
        DEFAULT_MGR_ADDRESS=node.address, DEFAULT_MGR_TLS_FINGERPRINT=node.certificate.fingerprint
    )
    flags = ("--memory", "512m", "--memory-swap", "512m", "--user", "1000:1000", "--entrypoint", "python")
    return engine.run("-c", PATIENCE + ENDS, flags=flags, env=settings, data=engine.data("1000:1000"))


def host_of(engine: Engine) -> str:
    return engine.node.address.partition(":")[0]


def test_bombs_end_a_run_with_a_sentence_and_not_for_want_of_memory(engine: Engine) -> None:
    tiny = listing(b"{}," * 1_900_000 + b"{}", 1)
    wide = listing(conferences(1, name="\U0001f680" + "a" * 5_900_000), 1)
    for body in (zipped([bytes(10**6)] * 600), zipped([tiny]), zipped([wide])):
        with RawNode(
            lambda _, send, body=body: send(reply(body, "Content-Encoding: gzip")), host=host_of(engine)
        ) as node:
            code, logs = attacked(engine, node)
        assert code in (0, 1), f"137 is what the kernel's killer leaves: {code} {logs[-500:]}"
        assert code == 0 or "DEFAULT_MGR_ADDRESS" in logs


def test_an_answer_that_drips_is_not_waited_for(engine: Engine) -> None:
    def talk(target: str, send: object) -> None:
        send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")  # type: ignore[operator]
        while True:
            send(b"{")  # type: ignore[operator]
            time.sleep(0.1)

    with RawNode(talk, host=host_of(engine)) as node:
        code, logs = attacked(engine, node)
    assert (code, "no whole answer within 2 s" in logs) == (1, True), logs
