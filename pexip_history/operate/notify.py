"""A run's outcome reaches a person: pings for a monitor, messages through Apprise.

Their addresses are secrets: of one only its kind and host are ever said, and of an error only what it comes to.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from pexip_history.errors import printable
from pexip_history.folder.opening import own
from pexip_history.messages import sentence
from pexip_history.operate.message import Message, Row, due, plain, was_stopped

if TYPE_CHECKING:
    from apprise import Apprise

    from pexip_history.settings.environment import Settings

MOST_ATTACHED = 10 << 20
"""Bytes of a page that is sent: mail servers take little more."""
PER_RUN, PER_REQUEST, PAUSE, TRIES = 30.0, 10.0, 1.0, 3  # seconds, seconds, seconds, times

log = logging.getLogger("collector")


class Pings:
    """One run's pings in the Healthchecks protocol: /start, then the URL itself or /fail. Nothing where it is None.

    HTTPS_PROXY, NO_PROXY and REQUESTS_CA_BUNDLE (without it: the authorities that come with requests) are read as it
    is made: a run beside it takes variables out of the environment.
    """

    def __init__(self, url: str | None) -> None:
        self.url = url
        self._started: Future[str | None] | None = None
        self._over = threading.Event()
        if url:
            import requests

            self._proxies = requests.utils.get_environ_proxies(url)
            self._verify = os.environ.get("REQUESTS_CA_BUNDLE") or True

    def start(self) -> None:
        """Say that a run begins, beside it: the run does not wait for the answer."""
        if self.url:
            from uuid import uuid4

            self._id = str(uuid4())
            self._started = _in_background(lambda: self.post("/start", "", self._id, self._over))

    def end(self, good: bool, text: str) -> str | None:
        """Say how it went; why that could not be said, None where it could. Takes up to half a minute."""
        known = None
        if self._started:
            self._over.set()  # one that came after the end would begin another run
            with suppress(TimeoutError):
                if self._started.result(PER_REQUEST) is None:
                    known = self._id
        # With an id that no /start brought, a good end would leave the monitor waiting for the run of the last one.
        return self.post("" if good else "/fail", text, known)

    def post(
        self, suffix: str, text: str, run_id: str | None = None, over: threading.Event | None = None
    ) -> str | None:
        """Post a text to the URL with a suffix, three times at most; why it was not taken, None where it was."""
        split = urlsplit(self.url or "")
        query = "&".join(part for part in (split.query, run_id and f"rid={run_id}") if part)
        address = split._replace(path=split.path.rstrip("/") + suffix, query=query, fragment="").geturl()
        body = "\n".join(map(printable, text.splitlines())).encode(errors="backslashreplace")
        over = over or threading.Event()
        for left in reversed(range(TRIES)):
            why, passing = self._once(address, body)
            if not (passing and left) or over.wait(PAUSE):
                break
        return why

    def _once(self, address: str, body: bytes) -> tuple[str | None, bool]:
        """Why it was not taken, and whether that may pass."""
        import requests

        headers = {"Content-Type": "text/plain; charset=utf-8", "User-Agent": "pexip-history-collector"}
        how = {"timeout": PER_REQUEST, "verify": self._verify, "allow_redirects": False, "stream": True}
        with requests.Session() as session:
            session.trust_env, session.proxies = False, self._proxies
            try:
                answer = session.post(address, body, headers=headers, **how)  # type: ignore[arg-type]
                said = answer.raw.read(100) if answer.ok else b""
            except (requests.RequestException, OSError, ValueError) as error:
                return _why(repr(error)), True
        if answer.status_code != 200 or b"(not found)" in said:
            hint = "; does the check still exist?" if answer.status_code in (200, 404) else ""
            hint = "; give the address that it leads to" if answer.is_redirect else hint
            code = 404 if answer.status_code == 200 else answer.status_code
            return f"it answered {code}{hint}", code >= 500
        return None, False


def tell(settings: Settings, pings: Pings, runs: Sequence[Row], lost: int = 0) -> None:
    """Say how the newest run (see `due`) went to all who are set, at once and within 30 s. What fails is a warning.

    A run that was stopped says nothing: a later one that goes well ends what its /start began.
    """
    if not runs or was_stopped(runs[0]):
        return
    jobs = list[Job]()
    good, text = runs[0]["outcome"] == "done", plain(str(runs[0]["message"] or ""), host_of(settings))
    if pings.url:
        jobs.append((_ping_label(pings.url), lambda: pings.end(good, text)))
    if settings.notify_urls and (message := due(runs, settings.address, settings.zone, lost)):
        jobs += _messages(settings, message, good and not lost)
    _warn(jobs)


def tell_wrong_settings(ping_url: str | None, problems: Sequence[str]) -> None:
    """Say that no run can begin. By ping alone: a container that restarts would send a message each time."""
    if ping_url:
        text = "\n".join(("the settings are wrong, nothing is collected", *problems))
        _warn([(_ping_label(ping_url), lambda: Pings(ping_url).end(False, text))])


def tell_month(settings: Settings, page: Path, figures: Sequence[str]) -> None:
    """Send the page of a month: attached where the service takes attachments, elsewhere its figures alone."""
    if not settings.notify_urls:
        return
    title = f"{settings.address}: the report {page.name}"
    with open(page, "rb", opener=own) as file:
        held = file.read(MOST_ATTACHED + 1)
    large = ", which is too large to be sent" if len(held) > MOST_ATTACHED else ""
    body = "\n".join((*figures, f"The whole page is {page.name} in the data folder{large}."))
    attached = None if large else Attached(page.name, held)
    _warn(_messages(settings, Message(title, body), True, attached), "month-not-sent")


def try_all(settings: Settings) -> list[tuple[str, bool, str]]:
    """Send a test to all who are set: the label, whether it was taken, a sentence. A check's state stays as it is."""
    jobs = list[Job]()
    if url := settings.ping_url:
        jobs.append((_ping_label(url), lambda: Pings(url).post("/log", "a test of collector.py check --notify")))
    text = "This is a test of collector.py check --notify. Nothing is wrong."
    jobs += _messages(settings, Message(f"{settings.address}: a test", text), True)
    return [(label, why is None, why or "the test was taken") for label, why in _all(jobs)]


def described(settings: Settings) -> str:
    """Who is told, by kind and host."""
    labels = [_ping_label(settings.ping_url)] if settings.ping_url else []
    if settings.notify_urls:
        labels += [_label(place, service) for place, service in enumerate(_services(settings.notify_urls), 1)]
    return ", ".join(labels) or "nobody; DATA_PING_URL and DATA_NOTIFY_URLS are not set, so a failure tells nobody"


def notify_problems(urls: Sequence[str]) -> list[str]:
    """What is wrong with DATA_NOTIFY_URLS, without showing them. Loads Apprise where there are any."""
    problems = []
    for place, (url, service) in enumerate(zip(urls, _services(urls) if urls else (), strict=True), 1):
        if not service:
            web = re.match("https?://", url, re.IGNORECASE)
            hint = "for a webhook of your own write jsons:// (http: json://)" if web else "see docs/getting-told.md"
            problems.append(sentence("address-unknown", place=place, addresses=len(urls), hint=hint))
    return problems


# How it is sent


class Attached(NamedTuple):
    """A page that goes with a message."""

    name: str
    held: bytes


Job = tuple[str, Callable[[], str | None]]  # a label without a secret; why it was not taken, or None


def _all(jobs: Sequence[Job]) -> list[tuple[str, str | None]]:
    """The jobs' outcomes, all done at once; what is not done after half a minute is left behind."""
    until, found = time.monotonic() + PER_RUN, []
    for label, future in [(label, _in_background(work)) for label, work in jobs]:
        why: str | None = f"no answer within {PER_RUN:.0f} s"
        with suppress(TimeoutError):
            why = future.result(until - time.monotonic())
        found.append((label, why))
    return found


def _warn(jobs: Sequence[Job], name: str = "not-told") -> None:
    for label, why in _all(jobs):
        if why:
            log.warning(sentence(name, who=label, why=why))


def _messages(settings: Settings, message: Message, good: bool, attached: Attached | None = None) -> list[Job]:
    urls, shown = settings.notify_urls, Message(*(plain(text, host_of(settings)) for text in message))

    def job(place: int, service: Apprise | None) -> Job:
        return _label(place, service), lambda: _notify(service, shown, good, attached)

    return [job(place, service) for place, service in enumerate(_services(urls) if urls else (), 1)]


def host_of(settings: Settings) -> str:
    """The node's name, the one host that a message may name as it is."""
    return urlsplit(f"https://{settings.address}").hostname or ""


def _services(urls: Sequence[str]) -> list[Apprise | None]:
    """What Apprise makes of each URL, in order; None where it understands none.

    Apprise's own log shows URLs as they are. It is kept from every handler; `_notify` reads it for what went wrong.
    """
    its_log = logging.getLogger("apprise")
    its_log.propagate = False
    its_log.setLevel(logging.DEBUG)
    import apprise

    asset = apprise.AppriseAsset(
        app_id="pexip-history-collector",
        app_desc="Pexip history collector",
        app_url="",
        image_url_mask="",  # no picture is fetched from elsewhere
        image_url_logo="",
        http_redirects=False,
        service_timeout=0,  # ours is stricter, and its workers would keep the process from ending
        default_service_retry=TRIES - 1,
        default_service_wait=PAUSE,
    )
    found = []
    for url in urls:
        service = apprise.Apprise.instantiate(url, asset=asset)
        if service:
            service.socket_connect_timeout = service.socket_read_timeout = PER_REQUEST
            service.request_rate_per_sec = min(service.request_rate_per_sec, PAUSE)
        found.append(apprise.Apprise(service, asset=asset) if service else None)
    return found


def _notify(service: Apprise | None, message: Message, good: bool, attached: Attached | None) -> str | None:
    if service is None:
        return "Apprise does not understand the address; see collector.py check"
    kind = "success" if good else "failure"
    attach = None
    if attached and all(one.attachment_support for one in service):
        from apprise.attachment.memory import AttachMemory

        attach = AttachMemory(attached.held, name=attached.name, mimetype="text/html")  # type: ignore[no-untyped-call]
    outcome = service.notify(
        message.body, message.title, notify_type=kind, body_format="text", log_level=logging.DEBUG, attach=attach
    )
    if outcome:
        return None
    return _why("\n".join(entry.message for attempt in outcome for one in attempt for entry in one.logs))


REASONS = {
    "certificate.verify|hostname mismatch": "its certificate does not verify",
    "sslerror|ssl:|starttls": "it refuses TLS",
    "proxyerror|to proxy|tunnel": "the proxy does not let it through; see HTTPS_PROXY and NO_PROXY",
    "timed? ?out": "no answer within 10 s",
    "refused": "the connection was refused",
    "name or service|name resolution|nameresolution|getaddrinfo|no address": "the name is not known",
    r"\b535\b|authenticat": "it does not accept the name or the password",
}


def _why(text: str) -> str:
    """What an error comes to; its own text may hold a secret."""
    if status := re.search(r"error=(\d{3})\b", text):
        return f"it answered {status[1]}"
    return next((why for known, why in REASONS.items() if re.search(known, text, re.IGNORECASE)), "it cannot be used")


def _ping_label(url: str) -> str:
    return f"DATA_PING_URL ({printable(urlsplit(url).netloc.rpartition('@')[2])})"


def _label(place: int, service: Apprise | None) -> str:
    """By kind, and by host where that is one: in many an Apprise URL a token has its place."""
    if service is None:
        return f"DATA_NOTIFY_URLS {place}"
    (one,) = service
    templates: tuple[str, ...] = one.templates
    has_host = all("{host}" in template for template in templates)
    return f"DATA_NOTIFY_URLS {place} ({one.schema}{f' {printable(one.host)}' if has_host else ''})"


def _in_background(function: Callable[[], str | None]) -> Future[str | None]:
    """Call it in a thread that does not keep the process from ending."""
    future: Future[str | None] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except Exception as error:  # noqa: BLE001 - whatever it is, the run is over and went as it went
            future.set_result(f"unexpected {type(error).__name__}")

    threading.Thread(target=work, daemon=True).start()
    return future
