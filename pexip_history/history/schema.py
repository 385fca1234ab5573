"""What the columns of the files hold: their types, and the SQL that makes a cell (text) a value.

A value that cannot be read is NULL and stops nothing. No expression is a bare `TRY_CAST(column AS type)`: DuckDB 2.0
moves that into its CSV reader, which throws.
"""

from __future__ import annotations

from pexip_history.folder.cells import HARMLESS, SEPARATORS, SIGNS, UNGUARDED

TIME, WHOLE, NUMBER, TRUTH, TEXT = "TIMESTAMP", "BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR"

TYPES = {
    **dict.fromkeys(("start_time", "end_time", "time_raised", "time_lowered", "time_changed"), TIME),
    **dict.fromkeys(("duration", "participant_count", "instant_message_count", "license_count"), WHOLE),
    **dict.fromkeys(("bandwidth", "rx_bandwidth", "tx_bandwidth", "rx_bitrate", "tx_bitrate", "remote_port"), WHOLE),
    **dict.fromkeys(("rx_packets_lost", "tx_packets_lost", "rx_packets_received", "tx_packets_sent"), WHOLE),
    **dict.fromkeys(("rx_fps", "tx_fps", "rx_packet_loss", "tx_packet_loss"), NUMBER),
    **dict.fromkeys(("direct_media_available", "has_media", "is_direct", "is_idp_authenticated"), TRUTH),
    **dict.fromkeys(("is_streaming", "transcoding_enabled"), TRUTH),
}
"""By the column's name in any file; what is not here is text (ids too: they are compared, never counted).

A TIMESTAMP is UTC. Bandwidths and bitrates are kbps, durations seconds, losses percent.
"""

NESTED = ("media_streams", "participants")
"""Columns of lists: long texts with quotes in them, which the formula guard leaves as they are."""

YEARS = (1970, 2999)
"""A time of another year is none."""

BLANKS = (
    r'\x{00}-\x{08}\x{0b}\x{0c}\x{0e}-\x{20}"\x{85}\x{a0}\x{ad}\x{61c}\x{1680}\x{180e}\x{2000}-\x{200f}'
    r"\x{2028}-\x{202e}\x{202f}\x{205f}-\x{2064}\x{2066}-\x{206f}\x{3000}\x{feff}"
)
"""BLANKS of folder/cells.py without the tab and the breaks, each written out: RE2 knows no \\s of Unicode."""
_RISKY = f"^[{BLANKS}]*[{SIGNS}]"
_HARMLESS = HARMLESS.pattern
_SEPARATORS = SEPARATORS.encode("unicode_escape").decode()


def type_of(column: str) -> str:
    """The DuckDB type of a column of that name."""
    return TYPES.get(column, TEXT)


def is_guarded(column: str) -> bool:
    """Whether a cell of a column of that name may have the formula guard."""
    return type_of(column) == TEXT and column not in UNGUARDED and column not in NESTED


def value(column: str, source: str) -> str:
    """The SQL for the value of a column of that name, from `source`, the SQL for its cell's text."""
    return checked(column, converted(column, source))


def converted(column: str, source: str) -> str:
    """The first step of `value`, which takes the time; `checked` looks at it more than once."""
    kind = type_of(column)
    if kind == TIME:  # the cast passes over blanks by itself, and trim takes as long as it
        return f"make_timestamp(epoch_us(TRY_CAST({source} || '' AS TIMESTAMPTZ)))"
    if kind == WHOLE:
        whole = f"regexp_full_match(trim({source}), '[+-]?[0-9]{{1,19}}')"
        return f"CASE WHEN {whole} THEN TRY_CAST(trim({source}) AS BIGINT) END"
    if kind == NUMBER:
        return f"TRY_CAST(trim({source}) AS DOUBLE)"
    if kind == TRUTH:
        return f"CASE lower(trim({source})) WHEN 'true' THEN true WHEN 'false' THEN false END"
    return unguarded(source) if is_guarded(column) else source


def checked(column: str, found: str) -> str:
    """The second: the SQL for the value, from `found`, the SQL for what the cell was converted to."""
    kind = type_of(column)
    if kind == TIME:
        return f"CASE WHEN year({found}) BETWEEN {YEARS[0]} AND {YEARS[1]} THEN {found} END"
    if kind == NUMBER:
        return f"CASE WHEN isfinite({found}) THEN {found} END"
    return f"nullif({found}, '')" if kind == TEXT else found


def unguarded(source: str) -> str:
    """The SQL that takes away each apostrophe that folder/cells.py `guard` has put in, and no other.

    One that the node itself sent before a sign cannot be told from these.
    """
    inner = f"regexp_replace(substr(p, 2), '[{_SEPARATORS}]$', '')"
    first = (
        f"(starts_with(p, '''') AND regexp_matches(substr(p, 2), '{_RISKY}|^[\\t\\r\\n]')"
        f" AND NOT regexp_full_match(substr({source}, 2), '{_HARMLESS}'))"
    )
    further = (
        f"(starts_with(p, '''') AND regexp_matches(substr(p, 2), '{_RISKY}')"
        f" AND NOT regexp_full_match({inner}, '{_HARMLESS}'))"
    )
    pieces = f"regexp_extract_all({source}, '[^{_SEPARATORS}]*[{_SEPARATORS}]?')"
    plain = f"CASE WHEN i = 1 AND {first} OR i > 1 AND {further} THEN substr(p, 2) ELSE p END"
    several = f"array_to_string(list_transform({pieces}, lambda p, i: {plain}), '')"
    rest = f"substr({source}, 2)"
    risky = f"regexp_matches({rest}, '{_RISKY}') AND NOT regexp_full_match({rest}, '{_HARMLESS}')"
    alone = f"CASE WHEN regexp_matches({source}, '[{_SEPARATORS}]') THEN {several} WHEN {risky} THEN {rest}"
    return (
        f"CASE WHEN contains({source}, '''') AND regexp_matches({source}, '(^|[{_SEPARATORS}])''')"
        f" THEN {alone} ELSE {source} END ELSE {source} END"
    )


def quoted(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def named(name: str) -> str:
    """A column's name as SQL."""
    return '"' + name.replace('"', '""') + '"'
