"""The resources as tables: a column for each field of a record, so that filters are the database's own."""

from __future__ import annotations

from django.db.models import (
    DO_NOTHING,
    BooleanField,
    CharField,
    DateTimeField,
    Field,
    ForeignKey,
    IntegerField,
    JSONField,
    Model,
    TextField,
)

from .calls import Record, conference, participant

KINDS: dict[type, type[Field]] = {bool: BooleanField, int: IntegerField, list: JSONField}
ONLY_AT_ITS_ADDRESS = ("bucketed_call_quality", "historic_call_quality")


def _table(name: str, record: Record, **own: Field) -> type[Model]:
    """A table for such records; any field but the id can be null."""
    columns = {field: KINDS.get(type(value), TextField)(null=True) for field, value in record.items()}
    del columns["resource_uri"]
    columns |= {field: JSONField(null=True) for field in ONLY_AT_ITS_ADDRESS if field in record}
    columns |= {"end_time": DateTimeField(null=True, db_index=True), "start_time": DateTimeField(null=True)}
    columns |= {"id": CharField(max_length=100, primary_key=True)} | own
    meta = type("Meta", (), {"app_label": "management_node"})
    return type(name, (Model,), {"__module__": __name__, "Meta": meta, **columns})


_held = conference()
Conference = _table("Conference", _held)  # its participants are URIs, which may lead to records not there (yet)
# Without a constraint: a participant can be there before its conference is.
_of = ForeignKey(Conference, DO_NOTHING, null=True, related_name="+", db_constraint=False)
Participant = _table("Participant", participant(_held), conference=_of)
