"""What a test may change about a node while it runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

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
    ordering: Collection[str] = ("end_time", "id", "name", "start_time", "time_changed", "time_lowered")
    """Fields that order_by takes; any other answers Tastypie's 400."""
    obeys: bool = True
    """Whether order_by, where it is taken, orders."""
    arrangement: Collection[str] = ("pk",)
    """What records come by that nothing orders; `duration` lets a test name any order."""
    ties: Literal["steady", "by limit"] = "steady"
    """By limit: records that tie come in one order where the limit is even, in the other where it is odd."""

    now: datetime | None = None
    """The node's clock; None: the real one. What ends later is not shown."""
    tells_time: bool = False
    """Whether answers carry its clock as their Date, as a real node's do; a test with a clock of its own need not."""
    date_error: float = 0
    """Seconds that a Date is ahead of its clock, where something on the way writes it."""
    appear_after: float = 0
    """How long after its end a record is shown."""
    participants_appear: Literal["left", "ended"] = "left"
    """When a participant is shown: as soon as it left, or when its conference ended."""
    keep: int = 10_000
    """The newest conferences that the node keeps, with all their participants."""
    hidden: set[str] = field(default_factory=set)
    """Ids of records that are not shown (yet)."""
    gone: Literal["empty", 400, 404] = "empty"
    """The answer to the participants of a conference that it does not have."""

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
        if now.tzinfo:
            now = now.astimezone(UTC).replace(tzinfo=None)
        return now - timedelta(seconds=self.appear_after)
