"""The History API on Tastypie.

Envelope, paging, filters, ordering and errors are the framework's.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import include, path
from tastypie import fields
from tastypie.api import Api
from tastypie.authorization import ReadOnlyAuthorization
from tastypie.bundle import Bundle
from tastypie.constants import ALL
from tastypie.exceptions import InvalidFilterError
from tastypie.resources import ModelResource
from tastypie.serializers import Serializer

from .calls import ROOT
from .framework import current
from .models import ONLY_AT_ITS_ADDRESS, Conference, Participant
from .oauth import Authentication, token

NOT_FILTERS = {"format", "limit", "offset", "order_by"}
NESTED = {*ONLY_AT_ITS_ADDRESS, "media_streams", "participants"}
FILTERS = {
    model: dict.fromkeys({field.name for field in model._meta.fields} - NESTED, ALL)
    for model in (Conference, Participant)
}
"""Every field with a column of its own may be filtered on, in every way."""


class Administrator:
    """The backend of Tastypie's Basic authentication: the node's one account."""

    def authenticate(self, username: str, password: str) -> SimpleNamespace | None:
        if (username, password) != (current().username, current().secret):
            return None
        return SimpleNamespace(is_active=True)


class NodeSerializer(Serializer):
    def to_json(self, data: object, options: dict[str, object] | None = None) -> str:
        simple = self.to_simple(data, options or {})
        return json.dumps(simple, cls=DjangoJSONEncoder, sort_keys=True, ensure_ascii=False)


class ConferenceUri(fields.ToOneField):
    def dehydrate(self, bundle: Bundle, for_list: bool = True) -> str | None:
        known = bundle.obj.conference_id
        return None if known is None else f"{ROOT}conference/{known}/"


class ParticipantUris(fields.ToManyField):
    def dehydrate(self, bundle: Bundle, for_list: bool = True) -> list[str] | None:
        stored: list[str] | None = bundle.obj.participants
        return stored


class HistoryResource(ModelResource):
    def build_filters(self, filters: dict[str, str] | None = None, ignore_bad_filters: bool = False) -> dict[str, Any]:
        """Tastypie passes over a field that it does not know; the product answers 400."""
        for name in filters or {}:
            field = name.split("__")[0]
            if field not in self.fields and name not in NOT_FILTERS:
                raise InvalidFilterError(f"The '{field}' field does not allow filtering.")
        return super().build_filters(filters, ignore_bad_filters)

    def get_object_list(self, request: HttpRequest) -> QuerySet:
        return super().get_object_list(request).filter(end_time__lte=current().clock().replace(tzinfo=None))

    def dehydrate(self, bundle: Bundle) -> Bundle:
        name = self._meta.resource_name
        bundle.data |= current().extra_fields.get(name, {})
        for field in current().dropped_fields.get(name, ()):
            bundle.data.pop(field, None)
        return bundle


class Common:
    """Options of all resources. Tastypie keeps a property as one: it is read at each request."""

    allowed_methods = ("get",)
    authentication = Authentication(backend=Administrator(), realm="Management Node")
    authorization = ReadOnlyAuthorization()
    detail_uri_name = "id"
    max_limit = property(lambda options: current().max_limit)
    ordering = ("end_time", "id", "name", "start_time")
    serializer = NodeSerializer()


class ConferenceResource(HistoryResource):
    participants = ParticipantUris(
        f"{__name__}.ParticipantResource", "participants", related_name="conference", null=True
    )

    class Meta(Common):
        queryset = Conference.objects.order_by("pk")
        resource_name = "conference"
        filtering = FILTERS[Conference]


class ParticipantResource(HistoryResource):
    bucketed_call_quality = fields.ListField("bucketed_call_quality", null=True, use_in="detail")
    conference = ConferenceUri(ConferenceResource, "conference", null=True)
    historic_call_quality = fields.ListField("historic_call_quality", null=True, use_in="detail")
    media_streams = fields.ListField("media_streams", null=True)

    class Meta(Common):
        queryset = Participant.objects.order_by("pk")
        resource_name = "participant"
        filtering = FILTERS[Participant]


api = Api(api_name="v1")
for resource in (ConferenceResource, ParticipantResource):
    api.register(resource())
urlpatterns = [path("api/admin/history/", include(api.urls)), path("oauth/token/", token)]
