"""The Pexip Management History API as a test double, on Django and django-tastypie.

with ManagementNode() as node:
    node.load(calls(seed=1, day=date(2026, 11, 23)))
    requests.get(f"https://{node.address}/api/admin/history/v1/conference/", ...)
"""

# framework first: Tastypie reads Django's settings when it is imported.
from . import framework  # noqa: F401, I001
from . import certificates, faults
from .calls import calls, conference, media_stream, participant
from .node import ManagementNode
from .oauth import OAuth2

__all__ = [
    "ManagementNode",
    "OAuth2",
    "calls",
    "certificates",
    "conference",
    "faults",
    "media_stream",
    "participant",
]
