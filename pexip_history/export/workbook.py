"""A table as an Excel workbook: real dates and numbers, text that stays text, a row in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import IO

ROWS = 1_048_575
"""Of a sheet, below its header."""
LONGEST = 32_767
"""UTF-16 units, as Excel counts the characters of a cell."""
EXACT = 10**15
"""From here on a number of Excel's has lost digits; such a one is written as text."""
DAY, ZERO = timedelta(days=1), datetime(1899, 12, 30)
FIRST = datetime(1900, 3, 1)
"""Excel counts a 29 February 1900; dates before it are written as text."""
WIDTHS = {"time": 19, "date": 11, "number": 12, "truth": 7, "text": 24}


def write_workbook(
    file: IO[bytes], scratch: Path, name: str, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[object]]
) -> int:
    """Write the rows, and return how many texts had to be cut to what a cell holds.

    `columns` are names and kinds (WIDTHS); `name` becomes the sheets', numbered from the second on. Values are text,
    numbers, bool (written as words: LibreOffice makes a formula of a truth value), date, datetime (naive) or None, an
    empty cell. `scratch` is a folder that the caller removes, also after an error. Line breaks are Excel's own, LF.
    Raises OSError.
    """
    from xlsxwriter.exceptions import FileCreateError

    sheets = _Sheets(file, scratch, name, columns)
    try:
        for row in rows:
            sheets.write(row)
        sheets.finish()
    except FileCreateError as error:  # it wraps what the disk said
        raise error.args[0] from None
    return sheets.cut


class _Sheets:
    """The workbook in the making."""

    def __init__(self, file: IO[bytes], scratch: Path, name: str, columns: Sequence[tuple[str, str]]) -> None:
        from xlsxwriter import Workbook

        options = {"constant_memory": True, "tmpdir": str(scratch), "use_zip64": True}
        self.book = Workbook(file, options)
        self.name, self.columns, self.cut = name, columns, 0
        self.head = self.book.add_format({"bold": True})
        self.formats = {
            "time": self.book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
            "date": self.book.add_format({"num_format": "yyyy-mm-dd"}),
        }
        # So that a text goes on being one when somebody edits its cell.
        self.quoted = self.book.add_format({"quote_prefix": True})
        self.places = [(place, self.formats.get(kind)) for place, (_, kind) in enumerate(columns)]
        self.sheets = 0
        self._begin()

    def _begin(self) -> None:
        from pexip_history.export.plain_sheet import PlainSheet

        self.sheets += 1
        self.sheet = self.book.add_worksheet(
            self.name if self.sheets == 1 else f"{self.name} {self.sheets}", worksheet_class=PlainSheet
        )
        self.row = 0
        self.sheet.freeze_panes(1, 0)
        for place, (name, kind) in enumerate(self.columns):
            self.sheet.set_column(place, place, WIDTHS[kind])
            self._text(0, place, name, self.head)

    def write(self, row: Sequence[object]) -> None:
        if self.row == ROWS:
            self._end()
            self._begin()
        self.row += 1
        number, sheet = self.row, self.sheet
        for (place, shape), value in zip(self.places, row, strict=True):
            if value is None:
                continue
            if isinstance(value, (int, float)) and not isinstance(value, bool) and -EXACT < value < EXACT:
                sheet.write_number(number, place, value)
            elif isinstance(value, date) and (moment := _moment(value)) >= FIRST:
                sheet.write_number(number, place, (moment - ZERO) / DAY, shape)
            else:
                self._text(number, place, str(value))

    def _text(self, row: int, place: int, text: str, shape: object = None) -> None:
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if len(text) > LONGEST // 2 and len(text.encode("utf-16-le")) > 2 * LONGEST:
            text = text.encode("utf-16-le")[: 2 * (LONGEST - 1)].decode("utf-16-le", "ignore") + "…"
            self.cut += 1
        self.sheet.write_string(row, place, text, self.quoted if text[:1] in ("=", "+", "-", "@") else shape)

    def _end(self) -> None:
        self.sheet.autofilter(0, 0, self.row, len(self.columns) - 1)

    def finish(self) -> None:
        self._end()
        self.book.close()


def _moment(value: date) -> datetime:
    """Of a date its midnight."""
    return value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
