"""What a spreadsheet shows of the files: LibreOffice reads them and writes what it made of each cell.

Not a part of `make test`, for LibreOffice is large. On Debian: apt-get install --no-install-recommends libreoffice-calc
"""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import pytest

from pexip_history.export.exporting import export
from pexip_history.export.wanted import Wanted
from tests.harness import Site, environment_for
from tests.management_node import ManagementNode, calls, conference, participant
from tests.report_reader import OSLO

OFFICE = shutil.which("soffice")
pytestmark = pytest.mark.skipif(OFFICE is None, reason="LibreOffice is not here (apt-get install libreoffice-calc)")

MIDNIGHT = datetime(2026, 11, 24, 0, 0, 20)
FORMULAS = ["=1+1", '=HYPERLINK("http://example.com/?"&A1,"click")', "=cmd|' /C calc'!A0", "@SUM(A1:A9)", "+1+1",
            "-2+3", "\t=1+1", "\r=1+1", "=WEBSERVICE(A1)", "a\n=1+1", "x\r\n=1,=2", '"=1+1', '",=1+1,"', ";=1+1",
            ";=cmd|'/c calc'!A0;", "a; @SUM(A1:A9)", "|=1+1", "a|+1+1|b",
            "a| @SUM(A1:A9)", "a;\u200b=1+1", "\uff1d1+1"]  # fmt: skip
SCRIPTS = ["山田 太郎", "محمد بن سلمان", "प्रिया शर्मा", "Łukasz Żółć", "👩‍💻 Dev Room 🚀", "🇳🇴 Oslo", "Cafe\u0301"]
PHONES = ["+4722334455", "+47 22 33 44 55", "-"]
# tokens of the CSV filter: separator (44 is a comma, 59 a semicolon), quote ("), character set (76 is UTF-8)
COMMA, SEMICOLON, BAR = "CSV:44,34,76", "CSV:59,34,76", "CSV:124,34,76"
WORKBOOK = "Calc MS Excel 2007 XML"
DIGITS = ["0047", "12345678901234567", "1e5", "2026-11-23", "a\nb", "TRUE"]

OFFICE_NS, TABLE, TEXT = (f"{{urn:oasis:names:tc:opendocument:xmlns:{n}:1.0}}" for n in ("office", "table", "text"))


@dataclass(frozen=True)
class Cell:
    kind: str  # float, string, date ...
    text: str
    formula: str | None


def opened(file: Path, how: str, folder: Path) -> ET.Element:
    """What LibreOffice makes of the file."""
    command = [str(OFFICE), f"-env:UserInstallation={(folder / 'profile').as_uri()}", "--headless"]
    command += [f"--infilter={how}", "--convert-to", "fods", "--outdir", str(folder), str(file)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=180)
    made = folder / f"{file.stem}.fods"
    assert made.exists(), done.stdout + done.stderr
    root = ET.parse(made).getroot()
    made.unlink()
    return root


def shown(file: Path, how: str, folder: Path) -> list[list[Cell]]:
    """The sheet that LibreOffice makes of the file, row by row."""
    return rows_of(opened(file, how, folder))


def rows_of(root: ET.Element) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for row in root.iter(f"{TABLE}table-row"):
        cells: list[Cell] = []
        for cell in row.findall(f"{TABLE}table-cell"):
            text = "\n".join(map(written, cell.findall(f"{TEXT}p")))
            one = Cell(cell.get(f"{OFFICE_NS}value-type", ""), text, cell.get(f"{TABLE}formula"))
            cells += [one] * int(cell.get(f"{TABLE}number-columns-repeated", "1"))
        rows.append(cells)
    while rows and not any(cell.kind for cell in rows[-1]):
        rows.pop()
    return rows


def written(line: ET.Element) -> str:
    """A line's text; several spaces and tabs are elements of their own."""
    parts = [line.text or ""]
    for child in line:
        parts.append({"s": " " * int(child.get(f"{TEXT}c", "1")), "tab": "\t"}.get(child.tag.partition("}")[2], ""))
        parts += [written(child), child.tail or ""]
    return "".join(parts)


@pytest.fixture(scope="module", params=[False, True], ids=["without a mark", "with a mark"])
def collected(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The files of a day of hostile calls."""
    folder = tmp_path_factory.mktemp("collected")
    data = folder / "data"
    data.mkdir()
    held = conference(name="=1+1", tag="@x")
    present = [participant(held, display_name=name) for name in (*FORMULAS, *SCRIPTS, *PHONES, *DIGITS)]
    with ManagementNode(now=MIDNIGHT) as node:
        node.load(calls(seed=31, day=date(2026, 11, 23), conferences=80))
        node.add([held], present)
        run = Site(data, environment_for(node, data))
        run.env |= {"DATA_CSV_BOM": str(request.param).lower(), "DATA_MEDIA_STREAMS": "true"}
        run.at(MIDNIGHT)
        assert run().code == 0
        yield run


def formulas(found: list[list[Cell]]) -> list[str]:
    return [cell.formula for row in found for cell in row if cell.formula]


def column(found: list[list[Cell]], name: str) -> list[Cell]:
    place = [cell.text for cell in found[0]].index(name)
    return [row[place] for row in found[1:]]


@pytest.mark.parametrize("kind", ["Conf", "Part", "Stream"])
def test_no_formula_runs_no_row_shifts_and_every_text_is_as_it_is_in_the_file(
    collected: Site, tmp_path: Path, kind: str
) -> None:
    wanted = collected.table(f"pexHistory{kind}.csv")
    found = shown(collected.data / f"pexHistory{kind}.csv", COMMA, tmp_path)
    assert formulas(found) == []
    assert len(found) == len(wanted)
    for row, cells in zip(wanted, found, strict=True):
        padded = [cell.text for cell in cells] + [""] * (len(row) - len(cells))
        assert not any(padded[len(row) :]), "nothing beyond the last column"
        for name, text, cell in zip(wanted[0], row, cells, strict=False):
            if cell.kind == "string":  # a sheet knows one kind of line end and shows no control characters
                assert "".join(cell.text.split()) == "".join(text.split()), name
    assert found[0][0].text == wanted[0][0], "no mark in the first column's name"
    assert {cell.kind for name in ("start_time", "end_time") for cell in column(found, name)} == {"date"}
    if kind == "Part":
        names = {cell.text: cell.kind for cell in column(found, "display_name")}
        assert names.keys() >= {*SCRIPTS}
        guarded = ("'=1+1", "'@SUM(A1:A9)", "'+1+1", "'-2+3", "'=WEBSERVICE(A1)")
        assert {names.get(name) for name in (*guarded, "+47 22 33 44 55")} == {"string"}
        assert names.keys() & {"+4722334455", "4722334455"}


@pytest.mark.parametrize("separator", [SEMICOLON, BAR])
def test_no_formula_runs_either_where_another_sign_separates_cells_and_the_columns_run_together(
    collected: Site, tmp_path: Path, separator: str
) -> None:
    for kind in ("Conf", "Part"):
        found = shown(collected.data / f"pexHistory{kind}.csv", separator, tmp_path)
        assert formulas(found) == []
        assert found[0][0].text.count(",") > 5, "which is why the page says to choose the comma"


# --- What `export` writes --------------------------------------------------------------------------


def exported(collected: Site, output: Path, **more: str) -> Path:
    wanted = Wanted("participants", output.suffix[1:], **more)  # type: ignore[arg-type]
    export(collected.data, output, wanted, zone=OSLO)
    return output


def test_an_exported_workbook_has_no_formula_true_dates_and_every_text_as_it_was_typed(
    collected: Site, tmp_path: Path
) -> None:
    root = opened(exported(collected, tmp_path / "people.xlsx"), WORKBOOK, tmp_path)
    found = rows_of(root)
    assert formulas(found) == []
    kinds = {key: {"date"} for key in ("start_time", "start_local", "end_time", "end_local")}
    kinds |= {"duration": {"float"}, "license_count": {"float"}, "display_name": {"string"}, "id": {"string"}}
    assert {name: {cell.kind for cell in column(found, name)} - {""} for name in kinds} == kinds
    names = [cell.text for cell in column(found, "display_name")]
    assert {"".join(name.split()) for name in names} >= {
        "".join(n.split()) for n in FORMULAS + SCRIPTS + PHONES + DIGITS
    }
    assert "a\nb" in names
    (area,) = root.iter(f"{TABLE}database-range")
    assert area.get(f"{TABLE}display-filter-buttons") == "true"
    assert area.get(f"{TABLE}target-range-address", "").endswith(f"{len(found)}")


def test_an_export_with_semicolons_runs_no_formula_and_shifts_no_row(collected: Site, tmp_path: Path) -> None:
    output = exported(collected, tmp_path / "people.csv", delimiter=";")
    assert output.read_bytes().startswith(b"\xef\xbb\xbf")
    found = shown(output, SEMICOLON, tmp_path)
    assert formulas(found) == []
    wanted = collected.table("pexHistoryPart.csv")
    assert (found[0][0].text, len(found)) == (wanted[0][0], len(wanted))
    assert {cell.kind for name in ("start_time", "end_local") for cell in column(found, name)} == {"date"}
    assert {cell.text for cell in column(found, "display_name")} >= {*SCRIPTS}
