"""What the node is shown with each request: a name and password, or a token that the key of a client got.

Both kinds answer to the same four names. They are for one request at a time, as the node is asked.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from pexip_history.errors import QUOTED, NodeError, Passing, printable
from pexip_history.messages import sentence
from pexip_history.node.connection import seconds_ahead
from pexip_history.settings.oauth2_client import token_url

Post = Callable[[str, Mapping[str, str]], tuple[int, Mapping[str, str], bytes]]
"""Sends a form to a URL, once, no redirect followed: status, headers, body. Raises NodeError."""

SCOPE = "is_admin use_api"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
HOUR = 3600.0  # seconds: an assertion's life, and a token's where the node does not tell
RENEW = 60.0  # seconds of a token's life that are not waited for; half its life where that is less
SAME_CLOCK = 10.0  # seconds
BACKDATED = 30.0  # seconds: more than SAME_CLOCK, for a node to which no `iat` may be ahead of its clock
FURTHEST = 86400.0  # seconds: nothing is signed for a clock that is further off
CLIENTS = "Users & Devices > OAuth2 Clients"

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
            return sentence("account-may-not-read", user=user)
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
            return sentence("client-may-not-read", client=self._client)
        return sentence("token-rejected", client=self._client)

    def describe(self) -> str:
        """The way in, for a person."""
        return f"OAuth2 client {self._client}" + (f", token valid for {self._lifetime:.0f} s" if self._token else "")

    def _obtain(self) -> None:
        self._token, told_time = "", False
        others = [name for name in self._names if name != self._audience]
        while True:
            asked = time.monotonic()
            status, headers, body = self._ask()
            if not 400 <= status <= 403:
                break
            if not told_time and (told_time := self._learns_time(headers)):
                continue
            if not others or _is_role(status, body):
                break
            self._audience = others.pop()
        if status != 200:
            raise self._refusal(status, headers, body)
        self._token, self._lifetime = self._read(headers, body)
        self._renewal = asked + self._lifetime - min(RENEW, self._lifetime / 2)
        log.debug("OAuth2 client %s got a token for %.0f s", self._client, self._lifetime)

    def _ask(self) -> tuple[int, Mapping[str, str], bytes]:
        return self._post(
            self._url,
            {
                "grant_type": "client_credentials",
                "client_assertion_type": ASSERTION,
                "client_assertion": self._assertion(),
                "scope": SCOPE,
            },
        )

    def _assertion(self) -> str:
        """Who we are, signed, for one request."""
        import uuid

        import jwt

        from pexip_history.settings.oauth2_client import read_key

        issued = int(time.time() + self._ahead - BACKDATED)
        claims = {"iss": self._client, "sub": self._client, "aud": self._audience, "iat": issued}
        claims |= {"exp": issued + int(HOUR), "jti": str(uuid.uuid4())}
        return jwt.encode(claims, read_key(self._key_pem), algorithm="ES256")

    def _learns_time(self, headers: Mapping[str, str]) -> bool:
        """Whether the node's clock is another than we dated by, so that an assertion by it is worth a try."""
        ahead = seconds_ahead(headers.get("Date"))
        if ahead is None or abs(ahead - self._ahead) <= SAME_CLOCK or abs(ahead) > FURTHEST:
            return False
        self._ahead = ahead
        log.debug("the node's clock is %.0f s ahead of this machine's; tokens are asked for by the node's", ahead)
        return True

    def _read(self, headers: Mapping[str, str], body: bytes) -> tuple[str, float]:
        """The token and its life in seconds, from the answer to a request that was granted."""
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            kind = printable(headers.get("Content-Type", "no Content-Type"), QUOTED)
            raise Passing(sentence("token-no-json", at=self._name(), kind=kind)) from None
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not re.fullmatch("[!-~]+", token):
            raise NodeError(sentence("token-missing", at=self._name()))
        if str(answer.get("token_type", "Bearer")).lower() != "bearer":
            raise NodeError(sentence("token-not-bearer", at=self._name()))
        lifetime = HOUR
        with suppress(TypeError, ValueError, OverflowError):
            lifetime = float(answer.get("expires_in"))
        return token, lifetime if math.isfinite(lifetime) and lifetime > 0 else HOUR

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> NodeError:
        """The sentence for an answer that is no token."""
        detail = _oauth_error(body)[1]
        what = {"at": self._name(), "status": f"{status} ({detail})" if detail else status}
        if status in (408, 429) or status >= 500:
            wait = max(seconds_ahead(headers.get("Retry-After")) or 0.0, 0.0)
            trouble = "too many requests" if status == 429 else "the node has a problem of its own"
            return Passing(sentence("token-not-given", **what, trouble=trouble), wait)
        if status == 404:
            return NodeError(sentence("no-oauth2", **what))
        if 300 <= status < 400:
            target = printable(headers.get("Location", "nowhere"), QUOTED)
            return NodeError(sentence("token-redirect", **what, location=target))
        if _is_role(status, body):
            return NodeError(
                f"{what['at']} answered {what['status']}: {sentence('client-may-not-use-api', client=self._client)}"
            )
        if status in (400, 401):
            return NodeError(f"{what['at']} answered {what['status']}: {self._unknown(headers, detail)}")
        return NodeError(sentence("token-status-unknown", **what))

    def _unknown(self, headers: Mapping[str, str], detail: str) -> str:
        """Why the node takes nothing from this client: `invalid_client` has four causes."""
        ahead = seconds_ahead(headers.get("Date"))
        audience = sentence("audience-unknown", names=" or ".join(self._names))
        if ahead is not None and abs(ahead) > FURTHEST:
            return sentence("client-clock", hours=abs(ahead) / 3600)
        if ahead is not None and re.search(r"\baud|invalid.claim", detail, re.IGNORECASE):
            return audience  # of the claims, the only one that can be wrong
        causes = [
            f"DEFAULT_MGR_CLIENT_ID: is client {self._client} among {CLIENTS}, or was it removed?",
            "DEFAULT_MGR_CLIENT_KEY_FILE: is it the key that the node showed for this client?",
            audience.replace("the node knows", "or the node knows"),
        ]
        if ahead is None:
            clocks = "the clocks: the node does not tell its time; is it the same as this machine's (NTP)?"
            causes.insert(0 if re.search(r"\b(iat|exp|nbf|expired)\b", detail, re.IGNORECASE) else 3, clocks)
        listed = " ".join(f"({n}) {cause}" for n, cause in enumerate(causes, 1))
        return sentence("client-not-accepted", causes=listed)

    def _name(self) -> str:
        return f"{urlsplit(self._url).netloc} (oauth/token/)"


def _is_role(status: int, body: bytes) -> bool:
    """Whether the node knows the client, and its role does not do."""
    return status == 403 or _oauth_error(body)[0] in ("invalid_scope", "unauthorized_client", "access_denied")


def _oauth_error(body: bytes) -> tuple[str, str]:
    """The error's code (RFC 6749, 5.2), and with its description on one short line; both may be empty."""
    answer = None
    with suppress(ValueError, RecursionError):
        answer = json.loads(body)
    if not isinstance(answer, dict):
        return "", ""
    code, *more = (str(answer.get(name) or "") for name in ("error", "error_description"))
    told = ": ".join(filter(None, (code, *more)))
    told = re.sub(r"eyJ[\w.-]+", "...", told)  # not our own request back into the log
    return code, printable(told[:200])
