"""What a node, its network or a middlebox does wrong, for the requests that a test chooses.

    node.faults.add(status(503, retry_after=1), on="participant", times=2)
    node.faults.add(reset(), nth=3)
    node.faults.add(hang(30), when=lambda request: request.query.get("offset") == "40", times=None)
    node.faults.add(before(lambda request: node.clear()), on="conference", nth=2)

A fault is a function of the request and of `answer`, which asks the framework; it returns the
reply to send. Those that edit an answer change only what is named.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .server import Reply, Request

Answer = Callable[[], Reply]
Fault = Callable[[Request, Answer], Reply]

HTML = {"Content-Type": "text/html; charset=utf-8"}
JSON = {"Content-Type": "application/json"}
LOGIN_PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Sign in</body></html>"


@dataclass
class Rule:
    fault: Fault
    on: str
    nth: int | None
    times: int | None
    when: Callable[[Request], bool] | None
    seen: int = 0

    def counts(self, request: Request) -> bool:
        """Whether the request is one of the rule's; remembers how many there were."""
        mine = self.on in ("", request.resource) and (not self.when or self.when(request))
        self.seen += mine
        return mine and (self.nth is None or self.seen >= self.nth)


class Faults:
    """Rules in the order they were added; of those that a request falls under, the first that is
    not used up spoils it. So several added alike are a queue."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(
        self,
        fault: Fault,
        *,
        on: str = "",
        nth: int | None = None,
        times: int | None = 1,
        when: Callable[[Request], bool] | None = None,
    ) -> None:
        """Spoils requests `on` a resource (default: any) for which `when` is true, `times` times
        (None: until cleared), from the `nth` of them on, counted from 1 and from now.
        """
        with self._lock:
            self._rules.append(Rule(fault, on, nth, times, when))

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    @property
    def waiting(self) -> bool:
        """Whether a fault is left that has not happened as often as it should."""
        return any(rule.times for rule in self._rules)

    def apply(self, request: Request, answer: Answer) -> Reply:
        with self._lock:
            due = [rule for rule in self._rules if rule.counts(request) and rule.times != 0]
            rule = due[0] if due else None
            if rule and rule.times is not None:
                rule.times -= 1
        return rule.fault(request, answer) if rule else answer()


def status(
    code: int,
    *,
    retry_after: int | str | None = None,
    body: str = "",
    headers: dict[str, str] | None = None,
) -> Fault:
    """A status alone, or with a body (of HTML unless `headers` say otherwise)."""
    extra = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return lambda request, answer: Reply(code, {**HTML, **extra, **(headers or {})}, body.encode())


def html(code: int = 200) -> Fault:
    """A page for people: a captive portal, a proxy's error, a sign-in form."""
    return status(code, body=LOGIN_PAGE)


def redirect(url: str, code: int = 302) -> Fault:
    return status(code, headers={"Location": url})


def not_the_envelope(document: object = ("not", "the", "envelope")) -> Fault:
    """JSON, but of another shape."""
    return lambda request, answer: Reply(200, JSON, json.dumps(document).encode())


def reset() -> Fault:
    """The connection is reset (RST) instead of an answer."""
    return lambda request, answer: Reply(200, reset=True)


def spoiled(spoil: Callable[[Reply], Reply]) -> Fault:
    return lambda request, answer: spoil(answer())


def hang(seconds: float) -> Fault:
    """The answer comes, but late; it ends at once when the node stops."""
    return spoiled(lambda reply: replace(reply, delay=seconds))


def cut(*, chunked: bool = False) -> Fault:
    """The connection ends in the middle of the body, though the head promised all of it."""
    return spoiled(lambda reply: replace(reply, sent=len(reply.body) // 2, chunked=chunked))


def truncated() -> Fault:
    """Half of the JSON, with a Content-Length that agrees."""
    return spoiled(lambda reply: replace(reply, body=reply.body[: len(reply.body) // 2]))


def edited(edit: Callable[[dict[str, Any]], object]) -> Fault:
    """The answer's JSON after `edit` changed it in place, where it is any."""

    def spoil(reply: Reply) -> Reply:
        if not reply.body.startswith(b"{"):
            return reply
        document = json.loads(reply.body)
        edit(document)
        return replace(reply, body=json.dumps(document, ensure_ascii=False).encode())

    return spoiled(spoil)


def next_at(origin: str) -> Fault:
    """`next` leads to another place: "https://other.example.com", "http://127.0.0.1:80"."""
    return edited(lambda document: document["meta"].update(next=origin + (document["meta"]["next"] or "/")))


def counted(by: int) -> Fault:
    """total_count is off by so many."""
    return edited(lambda document: document["meta"].update(total_count=document["meta"]["total_count"] + by))


def short() -> Fault:
    """An object less than the envelope says, and no next page."""
    return edited(lambda document: (document["objects"].pop(), document["meta"].update(next=None)))


def before(act: Callable[[Request], object]) -> Fault:
    """Something happens to the node just before this request; the answer is then true."""
    return lambda request, answer: (act(request), answer())[1]
