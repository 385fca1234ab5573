"""The History API: pages of a query, one request at a time, paced, repeated through passing faults."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

from pexip_history.errors import QUOTED, NodeError, NotFound, Passing, Refused, TooLarge, TooMany, printable
from pexip_history.messages import sentence
from pexip_history.node.answers import NOT_THE_API, Columns, PageReader, decode
from pexip_history.node.connection import Answer, Connection, seconds_ahead
from pexip_history.node.credentials import Basic, OAuth2
from pexip_history.node.records import OWN_ADDRESS_ONLY, Page, as_uris
from pexip_history.resources import BY_NAME, RESOURCES
from pexip_history.settings.environment import Settings

API = "/api/admin/history/v1/"
PAGE_SIZES = (1000, 250, 25)
"""1,000 is Tastypie's own maximum and measures best here (docs/design.md, "Page size"); the others where that is too
large, down to 240 KB a record."""
MOST_RECORDS = 100_000_000
"""That a query can have: a node keeps 10,000 conferences."""
ATTEMPTS, PATIENCE, LONGEST_WAIT = 5, 60.0, 120.0  # tries, seconds of them, seconds of one wait
PACE, PERIOD = 450, 60.0
"""Requests in so many seconds. The node allows 1,000 to all its clients together."""
BUSY_WAIT, BUSY_PATIENCE = 20.0, 300.0  # seconds: of a 429 that names none, and of all of them
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
        self._connection = Connection(settings)
        self._credentials: Basic | OAuth2 = (
            OAuth2(settings.address, settings.client_id, settings.client_key, settings.token_audience, self._post)
            if settings.client_id
            else Basic(settings.username, settings.secret)
        )
        self._readers = {name: PageReader(PAGE_SIZES[0]) for name in (r.name for r in RESOURCES)}
        self._sizes = list(PAGE_SIZES)
        self._unordered: set[str] = set()
        self.left_out: set[str] = set()  # a sentence on each record that cannot be used
        self._turn = threading.Lock()
        self._asked: deque[float] = deque(maxlen=PACE)
        self._end = time.monotonic() + LONGEST_RUN

    @property
    def clocks_agree(self) -> bool:
        """Whether the node's clock and ours are less than a quarter of an hour apart, as far as is known."""
        return self.clock_skew is None or abs(self.clock_skew) <= CLOCKS_AGREE

    def describe(self) -> str:
        """The way in, for a person."""
        return self._credentials.describe()

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
            if len(self._sizes) == 1:
                raise NodeError(str(error)) from None
            del self._sizes[0]
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

    def record(self, resource: str, record_id: str, *, whole: bool = False) -> Page:
        """The record at its own address, alone on a page. Raises NotFound where it is gone.

        `whole`: with the fields that only this address shows.
        """

        def as_list(body: bytes) -> tuple[Mapping[str, object], Columns]:
            return self._readers[resource](b'{"meta": {"total_count": 1}, "objects": [' + body + b"]}")

        url = f"{self.root}{resource}/{quote(record_id, safe='')}/"
        return self._as_page(resource, url, *self._get(url, as_list), whole=whole)

    @property
    def page_size(self) -> int:
        """How many records to ask for at once."""
        return self._sizes[0]

    def page(self, resource: str, query: Mapping[str, str]) -> Page:
        """One page."""
        return self._page(resource, f"{self.root}{resource}/?{urlencode(query)}")

    def fields(self, resource: str) -> list[str]:
        """The field names in the node's order, from any record or from the schema; none where it has neither."""
        if names := list(self.page(resource, {"limit": "1"}).columns):
            return names
        try:
            schema = self._get(f"{self.root}{resource}/schema/", decode)
        except (NotFound, Refused):
            return []
        listed = schema.get("fields") if isinstance(schema, dict) else None
        names = list(map(str, listed)) if isinstance(listed, dict) else []
        return [name for name in names if name not in OWN_ADDRESS_ONLY]

    def ask(self, url: str, reader: Callable[[bytes], T]) -> T:
        """One request, once: what the reader makes of the body."""
        answer = self._fetch(url)
        if answer.status == 401 and self._credentials.refused():
            answer = self._fetch(url)
        if answer.status != 200:
            raise self._status_error(url, answer)
        try:
            return reader(answer.body)
        except NodeError as error:
            raise NodeError(sentence("unlike-the-api", at=self._name(url), what=error)) from None
        except ValueError:
            kind = printable(answer.headers.get("Content-Type", "no Content-Type"), QUOTED)
            if "json" in kind:
                raise Passing(sentence("json-damaged", at=self._name(url))) from None
            raise Passing(sentence("no-json", at=self._name(url), kind=kind)) from None

    def _page(self, resource: str, url: str) -> Page:
        """The page at the address, with the address of the next."""
        return self._as_page(resource, url, *self._get(url, self._readers[resource]))

    def _as_page(
        self, resource: str, url: str, meta: Mapping[str, object], columns: Columns, whole: bool = False
    ) -> Page:
        total, ids = meta.get("total_count"), columns.get("id", ())
        if not isinstance(total, int) or total < 0:
            raise NodeError(sentence("unlike-the-api", at=self._name(url), what=NOT_THE_API))
        if total > MOST_RECORDS:
            raise NodeError(sentence("count-impossible", at=self._name(url), count=total))
        if columns and not ids:
            raise NodeError(sentence("unlike-the-api", at=self._name(url), what="records without an id"))
        following = meta.get("next")
        target = self._next(url, str(following), bool(columns)) if following else None
        columns = {name: values for name, values in columns.items() if whole or name not in OWN_ADDRESS_ONLY}
        if "conference" in columns:
            columns["conference"] = as_uris(columns["conference"])
        page = Page(columns, total, target, BY_NAME[resource].time)
        usable = [place for place, i in enumerate(ids) if isinstance(i, (str, int)) and i != "" and i is not True]
        return page if len(usable) == len(ids) else self._without_ids(url, page, usable)

    def _without_ids(self, url: str, page: Page, usable: Sequence[int]) -> Page:
        """The page without the records that have no id: nobody could tell whether they were written before."""
        chosen = set(usable)
        lost = page.only([place for place in range(len(page.columns["id"])) if place not in chosen])
        for at, name in zip(lost.times, lost.column("name" if "name" in lost.columns else "display_name"), strict=True):
            ended, named = printable(at or "at an unknown time", QUOTED), printable(str(name), QUOTED)
            self._warn_once(sentence("no-id", at=self._name(url), ended=ended, name=named))
        return replace(page.only(usable), following=page.following, left_out=len(lost.times))

    def _warn_once(self, text: str) -> None:
        if text not in self.left_out:
            self.left_out.add(text)
            log.warning("%s", text)

    def _next(self, url: str, following: str, filled: bool) -> str:
        """The whole address of the next page."""
        shown = printable(following, QUOTED)
        try:
            target = urljoin(url, following)
            stays = urlsplit(target)[:2] == urlsplit(url)[:2]
            readable = target.isascii() and target.isprintable() and " " not in target
        except ValueError:
            stays = readable = False
        if not stays:
            raise NodeError(sentence("next-elsewhere", at=self._name(url), next=shown))
        if not filled or target == url or not readable or len(target) > LONGEST_URL:
            raise NodeError(sentence("next-never-comes", at=self._name(url), next=shown))
        return target

    def _get(self, url: str, reader: Callable[[bytes], T]) -> T:
        """One request, repeated through passing faults with backoff and jitter; a 429 is waited out."""
        from tenacity import RetryCallState, Retrying, wait_exponential_jitter

        backoff = wait_exponential_jitter(multiplier=0.5, max=15)

        def failure(state: RetryCallState) -> BaseException | None:
            return state.outcome.exception() if state.outcome else None

        def again(state: RetryCallState) -> bool:
            error = failure(state)
            return isinstance(error, Passing) and error.retry_after <= LONGEST_WAIT

        def enough(state: RetryCallState) -> bool:
            spent = state.seconds_since_start or 0.0
            error = failure(state)
            if isinstance(error, TooMany) and not error.retry_after:
                return spent >= BUSY_PATIENCE
            return state.attempt_number >= ATTEMPTS or spent >= PATIENCE

        def pause(state: RetryCallState) -> float:
            error = failure(state)
            asked = error.retry_after if isinstance(error, Passing) else 0.0
            return max(backoff(state), asked or (BUSY_WAIT if isinstance(error, TooMany) else 0.0))

        def say(state: RetryCallState) -> None:
            seconds = state.next_action.sleep if state.next_action else 0
            log.info("%s; trying again in %.1f s", failure(state), seconds)

        retry = Retrying(retry=again, wait=pause, stop=enough, before_sleep=say, reraise=True)
        with self._turn:
            result: T = retry(self.ask, url, reader)
            return result

    def _fetch(self, url: str) -> Answer:
        """One request with its credentials, at the pace that leaves the node room for others."""
        headers = {"Authorization": self._credentials.header()}
        self._wait_turn()
        started = time.monotonic()
        answer = self._connection.ask(url, headers)
        log.debug("%s: %d, %d bytes, %.2f s", url, answer.status, len(answer.body), time.monotonic() - started)
        if self.clock_skew is None and (ahead := seconds_ahead(answer.headers.get("Date"))) is not None:
            with suppress(OverflowError):
                self.clock_skew = timedelta(seconds=ahead)
        return answer

    def _post(self, url: str, form: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        """A form, for a token."""
        self._wait_turn()
        answer = self._connection.ask(url, {}, form)
        return answer.status, answer.headers, answer.body

    def _wait_turn(self) -> None:
        now = time.monotonic()
        if now > self._end:
            raise Passing(
                sentence("run-too-long", address=self.address, hours=LONGEST_RUN / 3600),
                retry_after=LONGEST_RUN,
            )
        if len(self._asked) == PACE and (wait := self._asked[0] + PERIOD - now) > 0:
            log.debug("waiting %.1f s: at most %d requests in %.0f s", wait, PACE, PERIOD)
            time.sleep(wait)
        self._asked.append(time.monotonic())

    def _name(self, url: str) -> str:
        return f"{self.address} ({printable(urlsplit(url).path.removeprefix(API), QUOTED)})"

    @staticmethod
    def _is_optional(url: str) -> bool:
        """Whether only a setting made us ask for this resource."""
        name = urlsplit(url).path.removeprefix(API).partition("/")[0]
        return name in BY_NAME and BY_NAME[name].optional

    def _status_error(self, url: str, answer: Answer) -> NodeError:
        code, what = answer.status, {"at": self._name(url), "status": str(answer.status)}
        wait = max(seconds_ahead(answer.headers.get("Retry-After")) or 0.0, 0.0)
        patience = f" and asks to wait {wait:.0f} s" if wait > LONGEST_WAIT else ""
        if code in (400, 404) and self._is_optional(url):
            kind = NotFound if code == 404 else Refused
            return kind(sentence("not-offered", **what))
        if code == 400:
            return Refused(sentence("query-refused", **what))
        if code in (401, 403):
            return NodeError(f"{what['at']} answered {code}: {self._credentials.refusal(code, answer.headers)}")
        if code == 404:
            return NotFound(sentence("no-history-api", **what))
        if 300 <= code < 400:
            target = printable(answer.headers.get("Location", "nowhere"), QUOTED)
            return NodeError(sentence("redirect", **what, location=target))
        if code == 429:
            return TooMany(sentence("too-many-requests", **what, patience=patience), wait)
        if code >= 500:
            return Passing(sentence("node-trouble", **what, patience=patience), wait)
        return NodeError(sentence("status-unknown", **what))


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
