"""A month of the simulated year; make simulate-year has all of it."""

from __future__ import annotations

import pytest

from tests.year import simulate

pytestmark = pytest.mark.slow


def test_a_month_of_misfortunes_loses_and_doubles_nothing() -> None:
    assert not simulate([1, 2], 30)
