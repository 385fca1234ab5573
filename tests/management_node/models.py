"""The resources as tables: a column for each field, so that filters are the database's own."""

from __future__ import annotations

from django.db import models
from django.db.models import (
    BooleanField,
    CharField,
    DateTimeField,
    IntegerField,
    JSONField,
    Model,
    TextField,
)


class Record(Model):
    """Any field but the id can be null."""

    # Not fields of the API: how this one record differs from them.
    absent_fields = JSONField(null=True)
    further_fields = JSONField(null=True)
    id = CharField(max_length=100, primary_key=True)
    duration = IntegerField(null=True)
    end_time = DateTimeField(null=True, db_index=True)
    service_type = TextField(null=True)
    start_time = DateTimeField(null=True)

    class Meta:
        abstract = True
        app_label = "management_node"


class Conference(Record):
    direct_media_available = BooleanField(null=True)
    instant_message_count = IntegerField(null=True)
    name = TextField(null=True)
    participant_count = IntegerField(null=True)
    participants = JSONField(null=True)  # URIs, which may lead to records not there (yet)
    tag = TextField(null=True)


class Participant(Record):
    av_id = TextField(null=True)
    bandwidth = IntegerField(null=True)
    bucketed_call_quality = JSONField(null=True)
    call_direction = TextField(null=True)
    call_quality = TextField(null=True)
    call_tag = TextField(null=True)
    call_uuid = TextField(null=True)
    # Without a constraint: a participant can be there before its conference is.
    conference = models.ForeignKey(Conference, models.DO_NOTHING, null=True, related_name="+", db_constraint=False)
    conference_name = TextField(null=True)
    conversation_id = TextField(null=True)
    disconnect_reason = TextField(null=True)
    display_name = TextField(null=True)
    encryption = TextField(null=True)
    has_media = BooleanField(null=True)
    historic_call_quality = JSONField(null=True)
    idp_uuid = TextField(null=True)
    is_direct = BooleanField(null=True)
    is_idp_authenticated = BooleanField(null=True)
    is_streaming = BooleanField(null=True)
    license_count = IntegerField(null=True)
    license_type = TextField(null=True)
    local_alias = TextField(null=True)
    media_node = TextField(null=True)
    media_streams = JSONField(null=True)
    parent_id = TextField(null=True)
    presentation_id = TextField(null=True)
    protocol = TextField(null=True)
    proxy_node = TextField(null=True)
    remote_address = TextField(null=True)
    remote_alias = TextField(null=True)
    remote_port = IntegerField(null=True)
    role = TextField(null=True)
    rx_bandwidth = IntegerField(null=True)
    service_tag = TextField(null=True)
    signalling_node = TextField(null=True)
    system_location = TextField(null=True)
    transcoding_enabled = BooleanField(null=True)
    tx_bandwidth = IntegerField(null=True)
    vendor = TextField(null=True)

    # Not a field of the API: decides when the participant is shown.
    conference_end = DateTimeField(null=True, db_index=True)
