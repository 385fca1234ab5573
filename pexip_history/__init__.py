"""What a run of collector.py is made of: a room for each subject, lowest first in docs/design.md."""

__version__ = "1.2.0"
