"""The History API: pages of a query, one request at a time, paced, repeated through passing faults."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

from pexip_history.errors import QUOTED, NodeError, NotFound, Passing, Refused, TooLarge, TooMany, printable
from pexip_history.messages import sentence
from pexip_history.node.answers import PageReader, decode
from pexip_history.node.connection import Connection
from pexip_history.node.credentials import Basic, OAuth2
from pexip_history.node.records import OWN_ADDRESS_ONLY, Page, page_of
from pexip_history.node.refusals import LONGEST_WAIT, Answer, read_body, seconds_ahead, status_error
from pexip_history.resources import BY_NAME, RESOURCES
from pexip_history.settings.environment import Settings

API = "/api/admin/history/v1/"
PAGE_SIZES = (1000, 250, 25)
"""1,000 is Tastypie's own maximum and measures best here (docs/design.md, "Page size"); the others where that is too
large, down to 240 KB a record."""
ATTEMPTS, PATIENCE = 5, 60.0  # tries, seconds of them
BUSY_PATIENCE = 300.0  # seconds of tries where the node answers 429 and does not say how long
PACE, PERIOD = 450, 60.0
"""Requests in so many seconds. The node allows 1,000 to all its clients together."""
LONGEST_URL = 8000
LONGEST_RUN = 4 * 3600.0  # seconds
CLOCKS_AGREE = timedelta(minutes=15)

log = logging.getLogger("collector")
T = TypeVar("T")


class Node:
    """The Management Node's History API: one client, one request at a time.

    Every method raises NodeError: Passing when repeating did not help (TooMany where that was the node's
    limit of requests), Refused for a 400, NotFound for a 404, TooLarge for an answer beyond all bounds.
    """

    def __init__(self, settings: Settings) -> None:
        self.address = settings.address
        self.root = f"https://{settings.address}{API}"
        self.clock_skew: timedelta | None = None  # the node's clock less ours, from its Date header
        self.left_out: set[str] = set()  # a sentence on each record that cannot be used
        self._connection = Connection(settings)
        self.credentials: Basic | OAuth2 = (
            OAuth2(settings.address, settings.client_id, settings.client_key, settings.token_audience, self._post)
            if settings.client_id
            else Basic(settings.username, settings.secret)
        )
        self._readers = {resource.name: PageReader(PAGE_SIZES[0]) for resource in RESOURCES}
        self.page_size = PAGE_SIZES[0]  # records to ask for at once
        self._unordered: set[str] = set()
        self._turn = threading.Lock()
        self._asked: deque[float] = deque(maxlen=PACE)
        self._end = time.monotonic() + LONGEST_RUN

    @property
    def clocks_agree(self) -> bool:
        """Whether the node's clock and ours are less than a quarter of an hour apart, as far as is known."""
        return self.clock_skew is None or abs(self.clock_skew) <= CLOCKS_AGREE

    def pages(self, resource: str, filters: Mapping[str, str], *, newest_first: bool = False) -> Iterator[Page]:
        """Every page of a query, in the order of time where the node orders; the next is fetched ahead.

        `meta.next` is followed wherever the node's own maximum cut the page. Where a page is too large,
        TooLarge is raised once, and from then on smaller ones are asked for.
        """
        try:
            page = self.first_page(resource, filters, self.page_size, newest_first=newest_first)
            while page.following:
                ahead = _in_background(lambda url=page.following: self._page(resource, url))  # type: ignore[misc]
                yield page
                page = ahead.result()
        except TooLarge as error:
            if self.page_size == PAGE_SIZES[-1]:
                raise NodeError(str(error)) from None
            self.page_size = next(size for size in PAGE_SIZES if size < self.page_size)
            raise
        yield page

    def first_page(self, resource: str, filters: Mapping[str, str], size: int, *, newest_first: bool = False) -> Page:
        """The beginning of a query: the oldest records, or the newest, where the node orders."""
        query = {**filters, "limit": str(size)}
        if resource in self._unordered:
            return self.page(resource, query)
        sign = "-" if newest_first else ""
        try:
            return self.page(resource, {**query, "order_by": f"{sign}{BY_NAME[resource].time}"})
        except Refused:
            page = self.page(resource, query)
            self._unordered.add(resource)
            return page

    def count(self, resource: str, filters: Mapping[str, str]) -> int:
        """How many records a query has."""
        return self.page(resource, {**filters, "limit": "1"}).total

    def page(self, resource: str, query: Mapping[str, str]) -> Page:
        """One page, with the address of the next."""
        return self._page(resource, f"{self.root}{resource}/?{urlencode(query)}")

    def record(self, resource: str, record_id: str, *, whole: bool = False) -> Page:
        """The record at its own address, alone on a page. Raises NotFound where it is gone.

        `whole`: with the fields that only this address shows.
        """

        def read(body: bytes) -> Page:
            listed = b'{"meta": {"total_count": 1}, "objects": [' + body + b"]}"
            return page_of(BY_NAME[resource], *self._readers[resource](listed), whole=whole)

        url = f"{self.root}{resource}/{quote(record_id, safe='')}/"
        return self._with_ids(url, self._get(url, read))

    def fields(self, resource: str) -> list[str]:
        """The field names in the node's order, from any record or from the schema; none where it has neither."""
        if names := list(self.page(resource, {"limit": "1"}).columns):
            return names
        try:
            schema = self._get(f"{self.root}{resource}/schema/", decode)
        except (NotFound, Refused):
            return []
        listed = schema.get("fields") if isinstance(schema, dict) else None
        return [name for name in listed if name not in OWN_ADDRESS_ONLY] if isinstance(listed, dict) else []

    def ask(self, url: str, reader: Callable[[bytes], T]) -> T:
        """One request, once: what the reader makes of the body (see `read_body`)."""
        answer = self._fetch(url)
        if answer.status == 401 and self.credentials.refused():
            answer = self._fetch(url)
        if answer.status != 200:
            raise self._status_error(url, answer)
        return read_body(self._at(url), answer, reader)

    def _page(self, resource: str, url: str) -> Page:
        page = self._get(url, lambda body: page_of(BY_NAME[resource], *self._readers[resource](body)))
        if page.following:
            page = replace(page, following=self._next(url, page))
        return self._with_ids(url, page)

    def _with_ids(self, url: str, page: Page) -> Page:
        """The page without the records that have no id: nobody could tell whether they were written before."""
        usable = [place for place, i in enumerate(page.column("id")) if type(i) in (str, int) and i != ""]
        if len(usable) == len(page.ids):
            return page
        names = page.column("name" if "name" in page.columns else "display_name")
        for place in sorted({*range(len(page.ids))} - {*usable}):
            ended = printable(page.times[place] or "at an unknown time", QUOTED)
            text = sentence("no-id", at=self._at(url), ended=ended, name=printable(str(names[place]), QUOTED))
            if text not in self.left_out:
                self.left_out.add(text)
                log.warning("%s", text)
        return replace(page.only(usable), left_out=len(page.ids) - len(usable))

    def _next(self, url: str, page: Page) -> str:
        """The whole address of the next page."""
        shown = printable(page.following or "", QUOTED)
        try:
            target = urljoin(url, page.following)
            elsewhere = urlsplit(target)[:2] != urlsplit(url)[:2]
        except ValueError:
            elsewhere = True
        if elsewhere:
            raise NodeError(sentence("next-elsewhere", at=self._at(url), next=shown))
        if not page.columns or target == url or len(target) > LONGEST_URL or not re.fullmatch("[!-~]+", target):
            raise NodeError(sentence("next-never-comes", at=self._at(url), next=shown))
        return target

    def _get(self, url: str, reader: Callable[[bytes], T]) -> T:
        """One request, repeated through passing faults with backoff and jitter; a 429 is waited out."""
        from tenacity import RetryCallState, Retrying, wait_exponential_jitter

        backoff = wait_exponential_jitter(multiplier=0.5, max=15)

        def failure(state: RetryCallState) -> BaseException | None:
            return state.outcome.exception() if state.outcome else None

        def asked(state: RetryCallState) -> float:
            error = failure(state)
            return error.retry_after if isinstance(error, Passing) else math.inf

        def enough(state: RetryCallState) -> bool:
            spent = state.seconds_since_start or 0.0
            if isinstance(failure(state), TooMany):
                return spent >= BUSY_PATIENCE
            return state.attempt_number >= ATTEMPTS or spent >= PATIENCE

        def say(state: RetryCallState) -> None:
            log.info("%s; trying again in %.1f s", failure(state), state.upcoming_sleep)

        retry = Retrying(
            retry=lambda state: asked(state) <= LONGEST_WAIT,
            wait=lambda state: max(backoff(state), asked(state)),
            stop=enough,
            before_sleep=say,
            reraise=True,
        )
        with self._turn:
            result: T = retry(self.ask, url, reader)
            return result

    def _fetch(self, url: str) -> Answer:
        """One request with its credentials, at the pace that leaves the node room for others."""
        headers = {"Authorization": self.credentials.header()}
        self._wait_turn()
        started = time.monotonic()
        answer = self._connection.ask(url, headers)
        log.debug("%s: %d, %d bytes, %.2f s", url, answer.status, len(answer.body), time.monotonic() - started)
        if self.clock_skew is None and (ahead := seconds_ahead(answer.headers.get("Date"))) is not None:
            self.clock_skew = timedelta(seconds=ahead)
        return answer

    def _post(self, url: str, form: Mapping[str, str]) -> Answer:
        """A form, for a token."""
        self._wait_turn()
        return self._connection.ask(url, {}, form)

    def _wait_turn(self) -> None:
        now = time.monotonic()
        if now > self._end:
            hours = LONGEST_RUN / 3600
            raise Passing(sentence("run-too-long", address=self.address, hours=hours), retry_after=LONGEST_RUN)
        if len(self._asked) == PACE and (wait := self._asked[0] + PERIOD - now) > 0:
            log.debug("waiting %.1f s: at most %d requests in %.0f s", wait, PACE, PERIOD)
            time.sleep(wait)
        self._asked.append(time.monotonic())

    def _at(self, url: str) -> str:
        return f"{self.address} ({printable(urlsplit(url).path.removeprefix(API), QUOTED)})"

    def _status_error(self, url: str, answer: Answer) -> NodeError:
        at, status = self._at(url), answer.status
        if status in (401, 403):
            return NodeError(f"{at} answered {status}: {self.credentials.refusal(status, answer.headers)}")
        if status not in (400, 404):
            return status_error(at, answer)
        resource = BY_NAME.get(url.removeprefix(self.root).partition("/")[0])
        kind, name = (Refused, "query-refused") if status == 400 else (NotFound, "no-history-api")
        if resource and resource.optional:  # only a setting made us ask for it
            name = "not-offered"
        return kind(sentence(name, at=at, status=status))


def _in_background(function: Callable[[], T]) -> Future[T]:
    """Call it in a thread that does not keep the process from ending."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future
