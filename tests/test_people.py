"""Whose rows `erase` and `export` find."""

from __future__ import annotations

from itertools import zip_longest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pexip_history.folder.cells import guard
from pexip_history.folder.people import ADDRESS, ALIAS, CALLED, NAME, OWN, Person, canonical

TEXTS = st.text(
    st.one_of(st.sampled_from("aA*='+-@;\t\r\n \u00a0\u200bÉe\u0301\"ßſ\u1fb3"), st.characters()), max_size=12
)


FINDS = [
    ("Kari Nordmann", "kari NORDMANN"), ("Kari Nordmann", "  Kari Nordmann\u00a0"), (" Kari ", "Kari"),
    ("Kari Nordmann", "\u200eKari Nordmann\u200b"), ("Jürgen Groß", "JÜRGEN GROSS"), ("Zoé", "Zoe\u0301"),
    ("=1+1", "'=1+1"), ("'=1+1", "=1+1"), ("a\n=b", "a\n'=b"), ("+4722334455", "+4722334455"),
    ("+4722334455", "'+4722334455"), ("kari*", "Kari Nordmann"), ("*nordmann", "Kari Nordmann"),
    ("*kari*", "Kari Nordmann"), ("*i*n*", "Kari Nordmann"), ("*", "x"), ("a*a", "aa"), ("=*", "'=1+1"),
]  # fmt: skip
MISSES = [
    ("Kari", "Kari Nordmann"), ("Kari Nordmann", "Kari  Nordmann"), ("Kari?", "Karin"), ("Kari.*", "Kari Nordmann"),
    ("a*a", "a"), ("ab*bc", "abc"), ("*x*", "abc"), ("*", ""), ("*", " "),
    ("*a" * 200 + "*b", "a" * 100_000),  # as a pattern it would not end
]  # fmt: skip


def test_a_value_is_found_whatever_hides_it_and_a_part_or_a_pattern_of_another_language_finds_nobody() -> None:
    assert [pair for pair in FINDS if not Person(NAME, pair[0]).is_value(pair[1])] == []
    assert [pair for pair in MISSES if Person(NAME, pair[0]).is_value(pair[1])] == []


@pytest.mark.parametrize("text", ["", " ", "\u200b"])
def test_nobody_cannot_be_asked_for(text: str) -> None:
    with pytest.raises(ValueError, match="give a name"):
        Person(NAME, text)


@settings(deadline=None)
@given(TEXTS)
def test_the_formula_guard_never_hides_a_value(text: str) -> None:
    assert canonical(guard(text)) == canonical(text)
    assert canonical(canonical(text)) == canonical(text)


@settings(deadline=None)
@given(TEXTS)
def test_a_value_finds_itself_and_any_case_of_it(text: str) -> None:
    if canonical(text):
        for other in (text, guard(text), f" {text}\u00a0", text.casefold(), guard(text.lower())):
            assert Person(NAME, text).is_value(other)


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4), st.lists(TEXTS, max_size=4))
def test_a_star_stands_for_any_text(pieces: list[str], between: list[str]) -> None:
    pieces = [f"x{piece.replace('*', '')}y" for piece in pieces]
    filled = "".join(piece + text for piece, text in zip_longest(pieces, between[: len(pieces) - 1], fillvalue=""))
    if canonical(filled) == filled.casefold() and canonical("*".join(pieces)) == "*".join(pieces).casefold():
        assert Person(NAME, "*".join(pieces)).is_value(filled)


COLUMNS = ["id", "display_name", "remote_alias", "remote_address", "local_alias"]
ROW = ["1", "Kari", "kari@example.com", "192.0.2.1"]
FOUND = {
    (ALIAS, "KARI@example.com", "weekly@example.com"): OWN,
    (NAME, "kari", "weekly@example.com"): OWN,
    (ADDRESS, "192.0.2.1", "weekly@example.com"): OWN,
    (ALIAS, "192.0.2.1", "weekly@example.com"): 0,
    (ALIAS, "ola@example.com", "ola@example.com"): CALLED,  # through a gateway
    (ALIAS, "kari@example.com", "Kari@Example.com"): OWN + CALLED,
    (NAME, "Kari", "Kari@Example.com"): OWN + CALLED,
}


def test_the_caller_s_alias_makes_a_row_theirs_and_the_called_one_goes_where_it_is_the_person_s() -> None:
    assert {case: Person(*case[:2]).finder(COLUMNS)([*ROW, case[2]]) for case in FOUND} == FOUND


def test_short_rows_and_files_without_the_columns_hold_nobody() -> None:
    assert Person(NAME, "*").finder(COLUMNS)(["1"]) == 0
    assert Person(NAME, "*").finder(["participant_id", "id"])(["1", "2"]) == 0
    assert Person(ALIAS, "*").finder(["local_alias"])(["x"]) == CALLED
    assert Person(NAME, "*").finder(COLUMNS)(["1", "x", "", "", ""]) == OWN
    assert Person(NAME, "*").finder([*COLUMNS[1::3], *COLUMNS[2:3]])(["x", "y"]) == OWN


def test_a_longer_text_that_holds_the_value_is_told_apart() -> None:
    assert Person(ALIAS, "kari@example.com").is_in("Room of KARI@example.com")
    assert not Person(ALIAS, "kari@example.com").is_in("Room of Ola")
    assert not Person(ALIAS, "*").is_in("Room of Ola")
