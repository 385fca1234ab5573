"""What the node is shown with each request: a name and password, or a token that the key of a client got.

Both kinds answer to the same four names. They are for one request at a time, as the node is asked.
"""

from __future__ import annotations

import base64
import logging
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from pexip_history.errors import NodeError, printable
from pexip_history.messages import sentence
from pexip_history.node.answers import decode
from pexip_history.node.refusals import Answer, read_body, seconds_ahead, status_error
from pexip_history.settings.files import read_key

Post = Callable[[str, Mapping[str, str]], Answer]
"""Sends a form to a URL, once, no redirect followed. Raises NodeError."""

SCOPE = "is_admin use_api"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
HOUR = 3600.0  # seconds: an assertion's life, and a token's where the node does not tell
RENEW = 60.0  # seconds of a token's life that are not waited for; half its life where that is less
SAME_CLOCK = 10.0  # seconds
BACKDATED = 30.0  # seconds: more than SAME_CLOCK, for a node to which no `iat` may be ahead of its clock
FURTHEST = 86400.0  # seconds: nothing is signed for a clock that is further off

log = logging.getLogger("collector")


class Basic:
    """A user's name and password."""

    def __init__(self, username: str, secret: bytes) -> None:
        self._username = username
        self._quoted = secret[:1] in (b"'", b'"') and secret[-1:] == secret[:1]
        self._header = "Basic " + base64.b64encode(os.fsencode(username) + b":" + secret).decode()

    def header(self) -> str:
        """The value of Authorization."""
        return self._header

    def refused(self) -> bool:
        """Whether another try could go better after a 401."""
        return False

    def refusal(self, status: int, headers: Mapping[str, str]) -> str:
        """What a 401 or 403 of the node means, and the fix."""
        user = f"DEFAULT_MGR_USERNAME ({self._username})"
        if status == 403:
            return sentence("may-not-read", who=user)
        offered = headers.get("WWW-Authenticate", "").lower()
        if offered and "basic" not in offered:
            return sentence("no-passwords")
        hint = sentence("password-in-quotes") if self._quoted else ""
        return sentence("wrong-password" if offered else "wrong-password-or-none", user=user, hint=hint)

    def describe(self) -> str:
        """The way in, for a person."""
        return f"user {self._username}, with a password"


class OAuth2:
    """A client and its private key (PEM that `read_key` takes). `audience`: the node's own name, or its token URL.

    The token lives here alone. Its life is measured by the monotonic clock: setting the time changes nothing.
    """

    def __init__(self, address: str, client_id: str, key_pem: bytes, audience: str | None, post: Post) -> None:
        self._url = token_url(address)
        self._at = f"{urlsplit(self._url).netloc} (oauth/token/)"
        self._client, self._key_pem, self._post = client_id, key_pem, post
        name = audience or self._url
        # For a name, public clients sign the URL; users report of nodes that go by the name alone.
        self._names = [name] if "/" in name else [token_url(name), name]
        self._audience = self._names[0]
        self._token, self._lifetime, self._renewal = "", 0.0, 0.0
        self._ahead = 0.0  # seconds of the node's clock before ours, once it mattered

    def header(self) -> str:
        """The value of Authorization; asks for a token where none is left. Raises NodeError."""
        if not self._token or time.monotonic() >= self._renewal:
            self._obtain()
        return f"Bearer {self._token}"

    def refused(self) -> bool:
        """Whether another try could go better after a 401: with a new token, so ask once for each request."""
        self._token = ""
        return True

    def refusal(self, status: int, headers: Mapping[str, str]) -> str:
        """What a 401 or 403 of the node means, and the fix."""
        if status == 403:
            return sentence("may-not-read", who=f"OAuth2 client {self._client} (Users & Devices > OAuth2 Clients)")
        return sentence("token-rejected", client=self._client)

    def describe(self) -> str:
        """The way in, for a person."""
        return f"OAuth2 client {self._client}" + (f", token valid for {self._lifetime:.0f} s" if self._token else "")

    def _obtain(self) -> None:
        self._token, told_time = "", False
        others = [name for name in self._names if name != self._audience]
        while True:
            asked = time.monotonic()
            answer = self._post(self._url, self._form())
            if not 400 <= answer.status <= 403:
                break
            if not told_time and (told_time := self._learns_time(answer)):
                continue
            if not others or _is_role(answer):
                break
            self._audience = others.pop()
        if answer.status != 200:
            raise self._error(answer)
        self._token, self._lifetime = read_body(self._at, answer, _read_token)
        self._renewal = asked + self._lifetime - min(RENEW, self._lifetime / 2)
        log.debug("OAuth2 client %s got a token for %.0f s", self._client, self._lifetime)

    def _form(self) -> dict[str, str]:
        """Who we are, signed, for one request."""
        import uuid

        import jwt

        issued = int(time.time() + self._ahead - BACKDATED)
        claims = {"iss": self._client, "sub": self._client, "aud": self._audience, "iat": issued}
        claims |= {"exp": issued + int(HOUR), "jti": str(uuid.uuid4())}
        return {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION,
            "client_assertion": jwt.encode(claims, read_key(self._key_pem), algorithm="ES256"),
            "scope": SCOPE,
        }

    def _learns_time(self, answer: Answer) -> bool:
        """Whether the node's clock is another than we dated by, so that an assertion by it is worth a try."""
        ahead = seconds_ahead(answer.headers.get("Date"))
        if ahead is None or abs(ahead - self._ahead) <= SAME_CLOCK or abs(ahead) > FURTHEST:
            return False
        self._ahead = ahead
        log.debug("the node's clock is %.0f s ahead of this machine's; tokens are asked for by the node's", ahead)
        return True

    def _error(self, answer: Answer) -> NodeError:
        """The error for an answer that is no token."""
        if answer.status == 404:
            return NodeError(sentence("no-oauth2", at=self._at))
        if answer.status not in (400, 401, 403):
            return status_error(self._at, answer)
        detail = _oauth_error(answer)[1]
        why = self.refusal(403, answer.headers) if _is_role(answer) else self._not_accepted(answer, detail)
        return NodeError(f"{self._at} answered {answer.status}{f' ({detail})' if detail else ''}: {why}")

    def _not_accepted(self, answer: Answer, detail: str) -> str:
        """Why the node takes nothing from this client: `invalid_client` has four causes."""
        ahead = seconds_ahead(answer.headers.get("Date"))
        names = " or ".join(self._names)
        if ahead is None and re.search(r"\b(iat|exp|nbf|expired)\b", detail, re.IGNORECASE):
            return sentence("client-clock-unknown")
        if ahead is not None and abs(ahead) > FURTHEST:
            return sentence("client-clock", hours=abs(ahead) / 3600)
        if ahead is not None and re.search(r"\baud|invalid.claim", detail, re.IGNORECASE):
            return sentence("audience-unknown", names=names)  # of the claims, the only one that can be wrong
        return sentence("client-not-accepted", client=self._client, names=names)


def token_url(address: str) -> str:
    """Where a node gives out tokens. `address` is HOST or HOST:PORT."""
    return f"https://{address.lower().removesuffix(':443')}/oauth/token/"


def _read_token(body: bytes) -> tuple[str, float]:
    """The token and its life in seconds. Raises ValueError, NodeError."""
    answer = decode(body)
    token = answer.get("access_token") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(token, str) or not re.fullmatch("[!-~]+", token):
        raise NodeError("JSON without a token")
    if str(answer.get("token_type", "Bearer")).lower() != "bearer":
        raise NodeError("a token that is no Bearer token")
    lifetime = HOUR
    with suppress(TypeError, ValueError, OverflowError):
        lifetime = float(str(answer.get("expires_in")))
    return token, lifetime if math.isfinite(lifetime) and lifetime > 0 else HOUR


def _is_role(answer: Answer) -> bool:
    """Whether the node knows the client, and its role does not do."""
    return answer.status == 403 or _oauth_error(answer)[0] in ("invalid_scope", "unauthorized_client", "access_denied")


def _oauth_error(answer: Answer) -> tuple[str, str]:
    """The error's code (RFC 6749, 5.2), and with its description on one short line; both may be empty."""
    said = None
    with suppress(ValueError):
        said = decode(answer.body)
    if not isinstance(said, dict):
        return "", ""
    code, *more = (str(said.get(name) or "") for name in ("error", "error_description"))
    told = ": ".join(filter(None, (code, *more)))
    told = re.sub(r"eyJ[\w.-]+", "...", told)  # not our own request back into the log
    return code, printable(told[:200])
