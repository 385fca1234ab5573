"""The Pexip Management History API as a test double, on Django and django-tastypie.

with ManagementNode() as node:
    node.load(calls(seed=1, day=date(2026, 11, 23)))
    requests.get(f"https://{node.address}/api/admin/history/v1/conference/", ...)
"""

from . import framework  # noqa: F401  (first: Tastypie reads Django's settings when imported)
from .calls import calls, conference, media_stream, participant
from .node import ManagementNode

__all__ = ["ManagementNode", "calls", "conference", "media_stream", "participant"]
