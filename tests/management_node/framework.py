"""Django, configured for as many nodes in one process as the tests want.

Django's settings can be made once only, so each node gets a database of its own, added here
while it runs, and a router sends each query to the database of the node that is current.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.db import connections

if TYPE_CHECKING:
    from .node import Behaviour

_current: ContextVar[Behaviour] = ContextVar("current")

# A test node has nothing to keep: no query waits for the disk.
FAST = "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY;"


class Router:
    def db_for_read(self, model: type, **hints: Any) -> str:
        return current().database

    db_for_write = db_for_read


def current() -> Behaviour:
    """The node that the running request, or the running call of a method, belongs to."""
    return _current.get()


@contextmanager
def using(node: Behaviour) -> Iterator[None]:
    token = _current.set(node)
    try:
        yield
    finally:
        _current.reset(token)


def create_database(alias: str, file: Path) -> None:
    from . import models

    connections.databases[alias] = {**connections.databases["default"], "NAME": str(file)}
    with connections[alias].schema_editor() as schema:
        for model in (models.Conference, models.Participant):
            schema.create_model(model)


def drop_database(alias: str) -> None:
    """Forgets the database; other threads must have called close_connections() before."""
    connections[alias].close()
    del connections[alias]
    del connections.databases[alias]


def close_connections() -> None:
    """Ends what the calling thread has open."""
    connections.close_all()


settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": ":memory:",
            "OPTIONS": {"init_command": FAST},
        }
    },
    DATABASE_ROUTERS=[Router()],
    # Tastypie imports the user model; the node's one administrator is not stored in it.
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    LOGGING_CONFIG=None,
    MIDDLEWARE=[],
    ROOT_URLCONF=f"{__package__}.resources",
    SECRET_KEY="a test double has no sessions",
    TASTYPIE_DEFAULT_FORMATS=["json"],
    USE_I18N=False,
    USE_TZ=False,
)
django.setup()
# Refusals are answers, and tests provoke them; what the double itself gets wrong is said.
logging.getLogger("django.request").setLevel(logging.ERROR)
