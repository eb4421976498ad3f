"""`iot area`, `iot audit`, `iot undo`: a tree comes out of a file, is reorganised, and a mistake is taken back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from openpyxl import Workbook

from iot_core.cli import area_files, sheets
from iot_core.errors import RequestError

if TYPE_CHECKING:
    from tests.cli.conftest import Core

WARDS = [
    "code;kind;name_vi;parent_code",
    "92;province;Tỉnh Cà Mau;",
    *(f"9{n:04};ward;Phường Số {n};92" for n in range(12)),
]


def test_a_tree_is_imported_reorganised_and_a_mistake_taken_back(core: Core) -> None:
    path = core.folder / "areas.csv"
    path.write_text("\n".join(WARDS), encoding="utf-8-sig")
    would = core.json("area", "import", str(path), "--dry-run")
    assert (would["operation"], would["total"]) == (None, 13)
    asked = core("area", "import", str(path))
    assert asked.code == 1
    assert "--yes" in asked.err
    assert "13" in asked.err
    assert core.json("area", "import", str(path), "--yes")["total"] == 13
    assert core.json("area", "import", str(path), "--yes")["total"] == 0
    core.json("device", "add", "lamp-1", "--profile", "native-streetlight", "--area", "90003")

    merged = core.json("area", "merge", "90003", "90004", "--into", "90005", "--on", "2025-07-01")
    assert core.json("area", "show", "90003")["into"] == "90005"
    assert [each["key"] for each in core.json("device", "list", "--search", "phuong so 3")] == ["lamp-1"]
    assert core("area", "rename", "90003", "Khác").code == 1
    shown = core("area", "show", "90005", "--lang", "vi")
    assert "Phường Số 5" in shown.out
    log = core.json("audit", "lamp-1")
    assert log[0]["operation"] == merged["operation"]
    assert (log[0]["before"], log[0]["after"]) == ({"area": "90003"}, {"area": "90005"})

    undone = core("undo", str(merged["operation"]))
    assert undone.code == 0, undone.err
    assert core.json("area", "show", "90003")["ended_at"] is None
    assert core.json("device", "show", "lamp-1")["area"] == "90003"
    again = core("undo", str(merged["operation"]))
    assert again.code == 1
    assert "undone already" in again.err


def test_a_zone_is_given_up_and_taken_back(core: Core) -> None:
    core.json("area", "add", "zone-gone", "--name", "Khu cũ")
    core.json("device", "add", "lamp-zone", "--profile", "native-streetlight", "--area", "zone-gone")
    refused = core("area", "end", "zone-gone")
    assert (refused.code, "lamp-zone" in refused.err, "iot area merge" in refused.err) == (1, True, True)
    core.json("device", "remove", "lamp-zone")
    assert core.json("area", "end", "zone-gone", "--dry-run")["operation"] is None
    ended = core("area", "end", "zone-gone", "--lang", "vi")
    number = re.search(r"iot undo (\d+)", ended.err)
    assert (ended.code, number is not None) == (0, True), ended.err
    assert core.json("area", "show", "zone-gone")["ended_at"] is not None
    assert core("device", "add", "lamp-late", "--profile", "native-streetlight", "--area", "zone-gone").code == 1
    assert number is not None
    core.json("undo", number[1])
    assert core.json("area", "show", "zone-gone")["ended_at"] is None


def test_a_move_into_itself_is_refused_with_a_sentence(core: Core) -> None:
    core.json("area", "add", "outer", "--name", "Outer")
    core.json("area", "add", "inner", "--name", "Inner", "--parent", "outer")
    refused = core("area", "move", "outer", "--parent", "inner")
    assert refused.code == 1
    assert "inside" in refused.err


@pytest.mark.parametrize(
    ("data", "dialect"),
    [
        ("code;name\n06685;Phường Hồng Gai\n".encode("utf-8-sig"), "CSV, utf-8-sig, ;"),
        ("code,name\n06685,Phường Hồng Gai\n".encode(), "CSV, utf-8, ,"),
        ("code\tname\n06685\tPhường Hồng Gai\n".encode("utf-16"), "CSV, utf-16, TAB"),
        # Windows-1258 as Excel writes it: the tone stands behind its letter as a mark of its own.
        (b"code;name\n06685;Ph\xfd\xf5\xccng H\xf4\xccng Gai\n", "CSV, windows-1258, ;"),
        ("Areas, as of May, revised\ncode;name\n06685;Phường Hồng Gai\n".encode(), "CSV, utf-8, ;"),  # its title
    ],
)
def test_a_table_is_read_as_excel_wrote_it(tmp_path: Path, data: bytes, dialect: str) -> None:
    path = tmp_path / "areas.csv"
    path.write_bytes(data)
    areas, how, ignored = area_files.read(path)
    assert (how, ignored) == (dialect, ())
    assert [(each.key, each.name) for each in areas] == [("06685", "Phường Hồng Gai")]


def test_a_vietnamese_list_is_understood_and_what_is_none_of_ours_is_said(core: Core, tmp_path: Path) -> None:
    path = tmp_path / "kv.csv"
    path.write_text(
        "Mã;Tên;Loại *;Thuộc;Vĩ độ (độ);Kinh độ;Dân số\n06685;Phường Hà Tu;Phường;22;20,95;107,08;12000\n", "utf-8"
    )
    (area,), _, ignored = area_files.read(path)
    assert (area.key, area.name, area.kind, area.parent, area.latitude) == (
        "06685",
        "Phường Hà Tu",
        "Phường",
        "22",
        20.95,
    )
    assert ignored == ("dân số",)
    core.json("area", "add", "22", "--name", "Quảng Ninh")
    tried = core("area", "import", str(path), "--dry-run")
    assert (tried.code, "dân số" in tried.err) == (0, True), tried


def test_a_workbook_and_a_geojson_say_the_same(tmp_path: Path) -> None:
    book = Workbook()
    assert book.active is not None
    book.active.append(["Code", "Name", "Kind", "Lat", "Lon"])
    book.active.append(["06685", "Phường Hồng Gai", "ward", 20.95, 107.08])
    book.save(tmp_path / "areas.xlsx")
    point = {"type": "Point", "coordinates": [107.08, 20.95]}
    feature = {
        "type": "Feature",
        "geometry": point,
        "properties": {"code": "06685", "name": "Phường Hồng Gai", "kind": "ward"},
    }
    (tmp_path / "areas.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    assert area_files.read(tmp_path / "areas.xlsx")[0] == area_files.read(tmp_path / "areas.geojson")[0]


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("a.csv", b"", "sheet.no_heading"),
        ("a.csv", b"code;name\n1;\n", "sheet.bad_row"),
        ("a.csv", b"\x00\x01\x02", "sheet.nul"),
        ("a.xlsx", b"PK\x03\x04 not a workbook", "sheet.not_a_workbook"),
        ("a.xlsx", b"\x8a\xd2\x07 not one either", "sheet.not_a_workbook"),
        ("a.geojson", b"[]", "sheet.not_geojson"),
        (
            "a.geojson",
            b'{"features": [{"properties": {}, "geometry": {"type": "Point", "coordinates": []}}]}',
            "sheet.not_geojson",
        ),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, name: str, data: bytes, code: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(RequestError) as caught:
        area_files.read(path)
    assert caught.value.code == code
    assert caught.value.facts["file"] == path


def test_empty_cells_and_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b,\n1,,x\n,,\n ,2\n")
    assert [(row.number, row.cells) for row in sheets.read(path).rows] == [(2, {"a": "1"}), (4, {"b": "2"})]
