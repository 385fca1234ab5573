"""What a test may change about a node while it runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .oauth import OAuth2


@dataclass
class Behaviour:
    """The settings of one node. Times are UTC, spans are seconds."""

    username: str = "admin"
    secret: str = "sesame, open"
    basic: bool = True
    """Whether a name and password are taken at all (the product: api_oauth2_disable_basic)."""
    oauth2: OAuth2 | None = None
    """Its OAuth2 clients; None: a node without."""

    max_limit: int = 1000
    """Larger pages are clamped to this without a word, as Tastypie does."""
    ordering: Collection[str] = ("end_time", "id", "name", "start_time")
    """Fields that order_by takes; any other answers Tastypie's 400."""

    now: datetime | None = None
    """The node's clock; None: the real one. What ends later is not shown."""
    tells_time: bool = False
    """Whether answers carry its clock as their Date, as a real node's do; a test with a clock of its own need not."""
    hidden: set[str] = field(default_factory=set)
    """Ids of records that are not shown (yet)."""

    extra_fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Fields of a newer release: {"participant": {"bandwidth_class": "HD"}}."""
    dropped_fields: dict[str, Collection[str]] = field(default_factory=dict)
    """Fields that an older release lacks: {"conference": ["tag"]}."""
    shuffled_fields: bool = False
    """Keys in another order from row to row, instead of alphabetical."""

    database: str = field(default="", repr=False)

    def shown_until(self) -> datetime:
        """The newest end (naive, UTC) that is shown by now."""
        now = self.now or datetime.now(UTC)
        return now.astimezone(UTC).replace(tzinfo=None) if now.tzinfo else now
