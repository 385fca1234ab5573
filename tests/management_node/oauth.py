"""OAuth2 as the node has it: clients with a role and a key, tokens for a while. Authlib checks, and signs nothing.

    node.oauth2 = OAuth2()
    client, pem = node.oauth2.add("a client's name")
    node.basic = False

What Authlib checks here: algorithm, aud, iss and sub, exp, iat, single use of jti, scope, the token's life.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from authlib.integrations.django_oauth2 import AuthorizationServer, ResourceProtector
from authlib.integrations.django_oauth2.resource_protector import return_error_response
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import ClientMixin, InvalidClientError, MissingAuthorizationError, UnsupportedTokenTypeError
from authlib.oauth2.rfc6749.errors import InvalidScopeError
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6750 import BearerTokenGenerator, BearerTokenValidator
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.http import Http404, HttpRequest, HttpResponse
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from tastypie.authentication import BasicAuthentication

from .framework import current

SCOPE = "is_admin use_api"


@dataclass
class OAuth2:
    """The clients of a node and what it gave them. Spans are seconds."""

    lifetime: int = 3600
    """How long a token is good."""
    audience: str = ""
    """What the node calls itself in `aud`; empty: the token URL at the address where it listens."""
    clients: dict[str, Client] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    """All that were given, by their text."""
    used: set[str] = field(default_factory=set)
    """The jti of every request for a token."""

    def add(self, client_id: str, scope: str = SCOPE) -> bytes:
        """A new client, or a new key for one: the private key, shown this once, as PKCS#8."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.clients[client_id] = Client(client_id, ECKey.import_key(public), scope)
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def revoke(self, client_id: str) -> None:
        """The client is deleted, and what it was given with it."""
        del self.clients[client_id]
        self.tokens = {text: token for text, token in self.tokens.items() if token.client_id != client_id}


@dataclass
class Client(ClientMixin):
    client_id: str
    key: ECKey
    scope: str
    """What the client's role allows."""

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == ClientCredentialsGrant.GRANT_TYPE

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return (method, endpoint) == (JWTBearerClientAssertion.CLIENT_AUTH_METHOD, "token")

    def get_allowed_scope(self, scope: str) -> str:
        return scope  # Grant has refused any other


@dataclass
class Token:
    client_id: str
    scope: str
    until: float
    """By the machine's clock, whatever the node's is said to be."""

    def is_expired(self) -> bool:
        return time.monotonic() >= self.until

    def is_revoked(self) -> bool:
        return False

    def get_scope(self) -> str:
        return self.scope


class Assertion(JWTBearerClientAssertion):
    def resolve_client_public_key(self, client: Client) -> ECKey:
        return client.key

    def process_assertion_claims(self, assertion: str, key: ECKey) -> None:
        try:
            token = jwt.decode(assertion, key, algorithms=["ES256"])
        except JoseError as error:
            raise InvalidClientError(description=error.description) from error
        self.verify_claims(token.claims)

    def verify_claims(self, claims: dict[str, Any]) -> None:
        """By the node's clock, to the second."""
        node = current()
        must = {name: {"essential": True} for name in ("iss", "sub", "exp", "iat", "jti")}
        must["aud"] = {"essential": True, "value": node.oauth2.audience or f"https://{node.address}/oauth/token/"}
        now = int(node.clock().timestamp())
        try:
            jwt.JWTClaimsRegistry(now=now, leeway=0, **must).validate(claims)
        except JoseError as error:
            raise InvalidClientError(description=error.description) from error
        if claims["iss"] != claims["sub"]:
            raise InvalidClientError(description="iss is not sub.")
        if claims["jti"] in node.oauth2.used:
            raise InvalidClientError(description="JWT ID is used before.")
        node.oauth2.used.add(claims["jti"])


class Grant(ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = (JWTBearerClientAssertion.CLIENT_AUTH_METHOD,)

    def validate_requested_scope(self) -> None:
        if not set(SCOPE.split()) <= set((self.request.payload.scope or "").split()) <= set(self.client.scope.split()):
            raise InvalidScopeError


class Server(AuthorizationServer):
    def __init__(self) -> None:
        super().__init__(None, None)
        self.register_client_auth_method(Assertion.CLIENT_AUTH_METHOD, Assertion())
        self.register_grant(Grant)

    def create_bearer_token_generator(self) -> BearerTokenGenerator:
        return BearerTokenGenerator(
            lambda **_: f"bearer-{len(current().oauth2.tokens)}-{time.monotonic_ns()}",
            expires_generator=lambda client, grant_type: current().oauth2.lifetime,
        )

    def query_client(self, client_id: str) -> Client | None:
        return current().oauth2.clients.get(client_id)

    def save_token(self, token: dict[str, Any], request: Any) -> None:
        until = time.monotonic() + token["expires_in"]
        scope = token.get("scope") or SCOPE
        current().oauth2.tokens[token["access_token"]] = Token(request.client.client_id, scope, until)


class Validator(BearerTokenValidator):
    def authenticate_token(self, token_string: str) -> Token | None:
        return current().oauth2 and current().oauth2.tokens.get(token_string)


server = Server()
protector = ResourceProtector()
protector.register_token_validator(Validator())


def token(request: HttpRequest) -> HttpResponse:
    """The answer to POST /oauth/token/."""
    if not current().oauth2:
        raise Http404
    return server.create_token_response(request)


class Authentication(BasicAuthentication):
    """A token, or where it is not turned off a name and password."""

    def is_authenticated(self, request: HttpRequest, **kwargs: Any) -> bool | HttpResponse:
        try:
            protector.acquire_token(request, SCOPE)
        except (MissingAuthorizationError, UnsupportedTokenTypeError):
            if current().basic:
                return super().is_authenticated(request, **kwargs)
            return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
        except OAuth2Error as error:
            return return_error_response(error)
        request.user = SimpleNamespace(is_active=True)
        return True
