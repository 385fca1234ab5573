"""What a run asks for is a calculation: everything once, nothing of the future, and it ends."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pexip_history.ledger.spans import BEGINNING, Span, Times, common, merge, without
from pexip_history.run.plan import DAY, Reading, believed, plan, plan_by_hand
from pexip_history.values import format_time

NOW = datetime(2026, 11, 24, 0, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
MOST = 100
"""Hours before NOW that these histories reach back."""

hours = st.integers(0, MOST)
moments = hours.map(lambda hour: NOW - hour * HOUR)
spans = st.tuples(moments, moments).map(lambda pair: Span(min(pair), max(pair)))
some = st.lists(spans, max_size=6)
asked = st.fixed_dictionaries({"conference": some, "participant": some})


def held(spans: Sequence[Span]) -> set[int]:
    """The hours before NOW in which the spans lie, from BEGINNING at most: each as the number of its end."""
    return {hour for hour in range(MOST + 1) for span in spans if span.start <= NOW - (hour + 1) * HOUR < span.end}


def of(readings: Sequence[Reading], name: str) -> list[Span]:
    return [reading[name] for reading in readings if name in reading]


# Spans


@given(some, some)
def test_spans_are_sets_of_moments_and_merged_ones_are_in_order_apart_and_not_empty(
    one: list[Span], other: list[Span]
) -> None:
    assert held(merge([*one, *other])) == held(one) | held(other)
    assert held(without(one, other)) == held(one) - held(other)
    assert held(common(one, other)) == held(one) & held(other)
    merged = merge(one)
    assert held(merged) == held(one)
    assert all(span.start < span.end for span in merged)
    assert all(left.end < right.start for left, right in itertools.pairwise(merged))


@given(some, st.lists(moments, max_size=4))
def test_a_time_is_looked_up_as_the_node_writes_it_the_end_excluded(one: list[Span], times: list[datetime]) -> None:
    found = Times(one)
    for time in times:
        assert found.has(format_time(time)) == any(span.start <= time < span.end for span in one)
    texts = list(map(format_time, times))
    assert found.has_all(texts) == (
        not times or any(span.start <= min(times) and max(times) < span.end for span in merge(one))
    )


def test_a_record_without_a_time_lies_in_no_span() -> None:
    assert not Times([Span(BEGINNING, NOW)]).has("")


# The plan of a scheduled run


@given(asked, moments)
def test_everything_that_was_not_asked_for_is_asked_for_once_and_nothing_of_the_future(
    asked: Mapping[str, list[Span]], since: datetime
) -> None:
    readings = plan(asked, since, NOW)
    for name, spans in asked.items():
        planned = of(readings, name)
        assert held(planned) == held([Span(since, NOW)]) - held(spans)
        assert sum((span.end - span.start for span in planned), timedelta()) == sum(
            (span.end - span.start for span in without([Span(since, NOW)], spans)), timedelta()
        ), "nothing twice"
    for reading in plan(asked, since + 5 * HOUR, NOW):  # DATA_SINCE may lie ahead
        assert all(span.start <= span.end <= NOW for span in reading.values())


@given(asked)
def test_the_schedules_own_window_comes_first_and_what_is_older_oldest_first(asked: Mapping[str, list[Span]]) -> None:
    own, *older = plan(asked, BEGINNING, NOW)
    for name, spans in asked.items():
        ends = [span.end for span in merge(spans)]
        assert own[name] == Span(ends[-1] if ends else NOW - DAY, NOW)
        assert of(older, name) == sorted(of(older, name))
        assert all(span.end <= own[name].start for span in of(older, name))


def test_the_first_run_asks_for_the_day_before_it_and_then_for_all_that_is_older() -> None:
    assert plan({"conference": []}, BEGINNING, NOW) == [
        {"conference": Span(NOW - DAY, NOW)},
        {"conference": Span(BEGINNING, NOW - DAY)},
    ]


@given(asked, moments)
def test_a_plan_that_was_carried_out_leaves_nothing_to_ask_for(
    asked: Mapping[str, list[Span]], since: datetime
) -> None:
    readings = plan(asked, since, NOW)
    after = {name: [*spans, *of(readings, name)] for name, spans in asked.items()}
    (own,) = plan(after, since, NOW)
    assert all(span.start == span.end == NOW for span in own.values())


@given(asked, moments, st.data())
def test_windows_that_limits_shorten_come_to_an_end(
    asked: Mapping[str, list[Span]], since: datetime, data: st.DataObject
) -> None:
    """Of each reading as much as a limit allowed was covered: at least an hour of it, whatever is due then."""
    asked = {name: list(spans) for name, spans in asked.items()}
    for _ in range(2 * MOST + 2):
        due = [(name, span) for reading in plan(asked, since, NOW) for name, span in reading.items() if any(span)]
        due = [(name, span) for name, span in due if span.start < span.end]
        if not due:
            break
        name, span = data.draw(st.sampled_from(due))
        length = max(HOUR, (span.end - span.start) * data.draw(st.floats(0, 1)))
        asked[name].append(Span(span.start, min(span.end, span.start + length)))
    assert not due
    assert all(held([Span(since, NOW)]) <= held(spans) for spans in asked.values())


@given(asked, moments, st.integers(1, 2 * MOST))
def test_coverage_ahead_of_now_is_not_believed_and_all_of_it_is_asked_for_again(
    asked: Mapping[str, list[Span]], since: datetime, ahead: int
) -> None:
    wrong = Span(NOW - 2 * HOUR, NOW + ahead * HOUR)
    left = {name: believed(merge([*spans, wrong]), [wrong], NOW) for name, spans in asked.items()}
    assert all(span.end <= NOW for spans in left.values() for span in spans)
    readings = plan(left, min(since, NOW - 2 * HOUR), NOW)
    assert all({0, 1} <= held(of(readings, name)) for name in left)


def test_coverage_a_little_ahead_of_now_ends_now() -> None:
    """A clock was set back by less than a quarter of an hour."""
    ahead = Span(NOW - HOUR, NOW + timedelta(minutes=14))
    assert believed([ahead], [ahead], NOW) == [Span(NOW - HOUR, NOW)]


def test_what_runs_asked_for_ahead_of_now_goes_and_a_span_that_no_run_explains_goes_whole() -> None:
    earlier, wrong = Span(NOW - 3 * HOUR, NOW - HOUR), Span(NOW - HOUR, NOW + HOUR)
    assert believed([Span(NOW - 9 * HOUR, NOW + HOUR)], [earlier, wrong], NOW) == [Span(NOW - 9 * HOUR, NOW - HOUR)]
    assert believed([Span(NOW - 9 * HOUR, NOW + HOUR)], [earlier], NOW) == []


# A window by hand


@given(asked, spans)
def test_a_window_by_hand_asks_for_what_of_it_is_not_covered(covered: Mapping[str, list[Span]], window: Span) -> None:
    readings = plan_by_hand(window, covered)
    left = {name: without([window], spans) for name, spans in covered.items()}
    if any(left.values()):
        assert all(of(readings, name) == spans for name, spans in left.items())
    else:
        assert readings == [dict.fromkeys(covered, window)], "covered whole: it is read again"
