"""`iot device import|export|edit|replace`: a list is checked, taken once, changed as a whole and taken back."""

from __future__ import annotations

import csv
import json
import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import openpyxl
import pytest

from iot_core.api import shapes
from iot_core.cli import device_sheet
from iot_core.cli.importing import CHUNK
from iot_core.cli.pieces import gateways_first
from iot_core.errors import RequestError

if TYPE_CHECKING:
    from tests.cli.conftest import Core

HEAD = "Mã thiết bị;Tên;Loại;Khu vực;Vĩ độ;Kinh độ;Nhãn;Ghi chú;Màu\n"


def lamps(first: int, last: int, area: str = "6685") -> str:
    return "".join(
        f"bulb-{n:03};Đèn {n};streetlight;{area};20,95{n:02};107,08;đợt 1, trục chính;;xanh\n"
        for n in range(first, last)
    )


@pytest.fixture
def hong_gai(core: Core) -> Core:
    """Give a core with a ward that has an outline."""
    ring = [[107.0, 20.9], [107.1, 20.9], [107.1, 21.0], [107.0, 21.0], [107.0, 20.9]]
    ward = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"code": "06685", "name": "Phường Hồng Gai", "kind": "ward"},
    }
    path = core.folder / "ward.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [ward]}))
    core.json("area", "import", str(path), "--yes")
    return core


def test_a_list_from_excel_is_taken_once_and_its_secrets_are_for_its_owner_only(hong_gai: Core) -> None:
    core = hong_gai
    path = core.folder / "lamps.csv"
    path.write_text(HEAD + lamps(0, 20), encoding="utf-8-sig")
    would = core("device", "import", str(path), "--dry-run")
    assert would.code == 0, would.err
    assert "20 would be added" in would.out
    assert "utf-8-sig, ;" in would.err
    assert "màu" in would.err
    assert not (core.folder / "lamps-secrets.csv").exists()
    done = core.json("device", "import", str(path), "--yes")
    assert (done["added"], done["changed"], done["problems"]) == (20, 0, [])
    secrets = core.folder / "lamps-secrets.csv"
    assert secrets.stat().st_mode & 0o777 == 0o600
    kept = list(csv.reader(secrets.read_text().splitlines()))
    assert len(kept) == 20
    shown = core.json("device", "show", "bulb-003")
    assert (shown["name"], shown["area"], shown["latitude"]) == ("Đèn 3", "06685", 20.9503)
    assert shown["labels"] == ["đợt 1", "trục chính"]

    path.write_text(HEAD + lamps(0, 19) + lamps(19, 20).replace("Đèn 19", "Đèn mới"), encoding="utf-8-sig")
    again = core.json("device", "import", str(path), "--yes")
    assert (again["added"], again["changed"], again["unchanged"]) == (0, 1, 19)
    assert list(csv.reader(secrets.read_text().splitlines())) == kept
    core("undo", str(again["operations"][0]))
    assert core.json("device", "show", "bulb-019")["name"] == "Đèn 19"


def test_what_is_wrong_is_said_by_row_and_column_and_nothing_is_written_unless_asked(hong_gai: Core) -> None:
    core = hong_gai
    path = core.folder / "bad.csv"
    rows = [
        "bad-1;A;streetlight;06685;107,08;20,95;;;",  # 2: exchanged
        "bad-2;B;streetlight;06685;20,5;107,08;;;",  # 3: outside
        "bad-3;C;streetlight;Nowhere;20,95;107,08;;;",  # 4: no such area
        "BAD 4;D;streetlight;06685;;;;;",  # 5: no key
        "bad-5;E;toaster;06685;;;;;",  # 6: no class
        "bad-6;F;streetlight;06685;north;107;;;",  # 7: no number
        "bad-7;G;streetlight;Phường Hồng Gai;;;;;",  # 8: good, by name
        "bad-7;H;streetlight;;;;;;",  # 9: twice
        "bad-8;I;streetlight;;20,95;;;;",  # 10: half a position
    ]
    path.write_text(HEAD + "\n".join(rows) + "\n")
    refused = core("device", "import", str(path), "--output", "json")
    assert refused.code == 1
    problems = json.loads(refused.out)["problems"]
    said = {each["row"]: each["detail"] for each in problems}
    assert ("“BAD 4” is no key" in said[5], "“north” is no number of degrees" in said[7]) == (True, True)
    found = {(each["row"], each["column"]): each["code"] for each in problems}
    assert found == {
        (2, "latitude"): "registry.swapped",
        (3, "latitude"): "registry.outside_area",
        (4, "area"): "registry.area_unknown",
        (5, "key"): "sheet.bad_cell",
        (6, "class"): "registry.no_class",
        (7, "latitude"): "sheet.bad_cell",
        (9, "key"): "registry.row_twice",
        (10, "latitude"): "registry.half_position",
    }
    assert "--skip-bad" in refused.err
    assert core("device", "show", "bad-7").code == 1
    done = core.json("device", "import", str(path), "--skip-bad", "--yes")
    assert (done["added"], len(done["problems"])) == (1, 8)
    assert core.json("device", "show", "bad-7")["area"] == "06685"


def test_a_device_may_stand_in_a_list_before_its_gateway_but_not_without_one(core: Core) -> None:
    path = core.folder / "behind.csv"
    path.write_text("key,profile,gateway\nleaf-1,native-streetlight,hub-1\nhub-1,native-lighting-cabinet,\n")
    assert core.json("device", "import", str(path), "--yes")["added"] == 2
    assert core.json("device", "show", "leaf-1")["gateway"] == "hub-1"
    path.write_text("key,profile,gateway\nleaf-2,native-streetlight,leaf-3\nleaf-3,native-streetlight,leaf-2\n")
    refused = core("device", "import", str(path), "--output", "json")
    assert {each["code"] for each in json.loads(refused.out)["problems"]} == {"registry.no_gateway"}


def test_devices_are_edited_by_selector_previewed_and_taken_back(hong_gai: Core) -> None:
    core = hong_gai
    path = core.folder / "many.csv"
    path.write_text((HEAD + lamps(100, 115)).replace("đợt 1", "dot-1"))
    core.json("device", "import", str(path), "--yes")
    where = ("--where", "label=dot-1 and area=06685")
    asked = core("device", "edit", *where, "--drop-label", "dot-1", "--notes", "x")
    assert (asked.code, "15" in asked.err) == (1, True)
    would = core.json("device", "edit", *where, "--notes", "x", "--dry-run")
    assert (would["total"], would["operation"]) == (15, None)
    done = core.json("device", "edit", *where, "--drop-label", "dot-1", "--add-label", "dot-2", "--yes")
    assert core.json("device", "show", "bulb-101")["labels"] == ["trục chính", "dot-2"]
    core.json("device", "edit", "bulb-101", "--add-label", "special")
    refused = core("undo", str(done["operation"]))
    assert refused.code == 1
    assert "device/bulb-101" in refused.err
    wrong = core("device", "edit", "--where", "colour=red", "--notes", "x")
    assert wrong.code == 1
    assert "colour" in wrong.err
    for typo, said in (
        ("class=streetlite", "streetlight"), ("area=0668", "06685"), ("key=bulb-00", "bulb-0"), ("gateway=x", "x"),
        ("lifecycle=aktive", "provisioned"),
    ):  # fmt: skip
        wrong = core("device", "edit", "--where", typo, "--notes", "x")
        assert (wrong.code, said in wrong.err) == (1, True), typo


def test_an_export_is_an_import_that_changes_nothing(hong_gai: Core) -> None:
    core = hong_gai
    path = core.folder / "some.csv"
    path.write_text(HEAD + lamps(200, 205))
    core.json("device", "import", str(path), "--yes")
    for name in ("out.xlsx", "out.csv"):
        out = core.folder / name
        assert core.json("device", "export", str(out), "--where", "search='bulb-20'")["rows"] == 5
        again = core.json("device", "import", str(out), "--yes")
        assert (again["added"], again["changed"], again["unchanged"]) == (0, 0, 5)
    assert openpyxl.load_workbook(core.folder / "out.xlsx").active is not None


def test_days_and_serial_numbers_of_units_come_with_a_list_and_are_filled_in_by_a_later_one(core: Core) -> None:
    path = core.folder / "days.csv"
    path.write_text("Mã thiết bị;Loại;Bảo hành đến\ndays-1;streetlight;31/12/2027\n")
    assert core.json("device", "import", str(path), "--yes")["added"] == 1
    path.write_text("Mã thiết bị;Số seri;Bảo hành đến;Hạn kiểm định\ndays-1;S-7;31/12/2027;1/2/2028\n")
    for changed in (1, 0):
        done = core.json("device", "import", str(path), "--yes")
        assert (done["changed"], done["unchanged"]) == (changed, 1 - changed)
    (unit,) = core.json("device", "show", "days-1")["units"]
    days = {name: unit[name] for name in ("serial", "warranty_until", "calibrated_at", "calibration_due")}
    assert days == {
        "serial": "S-7", "warranty_until": "2027-12-31", "calibrated_at": None, "calibration_due": "2028-02-01",
    }  # fmt: skip
    for name in ("days.xlsx", "days-out.csv"):
        out = core.folder / name
        core.json("device", "export", str(out), "--where", "key=days-1")
        assert [row.warranty_until for row in device_sheet.read(out).rows] == [date(2027, 12, 31)]
        assert core.json("device", "import", str(out), "--yes")["unchanged"] == 1


def test_a_template_is_a_list_that_is_understood(core: Core) -> None:
    path = core.folder / "template.xlsx"
    assert core("device", "import", str(path), "--template", "native-streetlight").code == 0
    assert core("device", "import", str(path), "--dry-run").code == 0


def test_another_unit_takes_over_with_a_secret_of_its_own(core: Core) -> None:
    core.json("device", "add", "swap-1", "--profile", "native-water-meter", "--serial", "A1")
    replaced = core.json("device", "replace", "swap-1", "--serial", "B2")
    assert replaced["secret"]
    shown = core.json("device", "show", "swap-1")
    assert [(unit["serial"], unit["mounted_to"] is None) for unit in shown["units"]] == [("B2", True), ("A1", False)]
    other = core("device", "replace", "swap-1", "--profile", "native-streetlight")
    assert other.code == 1
    vendor = core.json("device", "replace", "swap-1", "--profile", "tuf-2000m", "--address", "127.0.0.8/4")
    assert (vendor["address"], vendor["secret"]) == ("modbus://127.0.0.8:502/4", None)
    assert [each["key"] for each in core.json("device", "list", "--search", "127.0.0.8")] == ["swap-1"]


def test_an_exchange_is_taken_back_with_the_old_secret_until_the_new_unit_has_spoken(core: Core) -> None:
    secret = core.add("swap-2", "native-water-meter", "--serial", "A1")
    first = core("device", "replace", "swap-2", "--profile", "tuf-2000m", "--address", "127.0.0.9/5", "--serial", "C3")
    second = core.json("device", "replace", "swap-2", "--serial", "D4")
    (number,) = re.findall(r"iot undo (\d+)", first.err)
    refused = core("undo", number)
    assert (refused.code, f"operation {second['operation']}" in refused.err) == (1, True)
    assert core("undo", str(second["operation"])).code == 0
    assert core.tell("swap-2", secret, volume=1.0).startswith("4.01")
    assert core("undo", number).code == 0
    (unit,) = core.json("device", "show", "swap-2")["units"]
    assert (unit["serial"], unit["address"], unit["mounted_to"]) == ("A1", "iot:swap-2", None)
    assert core.json("device", "list", "--search", "127.0.0.9/5") == []
    assert core.tell("swap-2", secret, volume=1.0).startswith("2.04")
    third = core.json("device", "replace", "swap-2", "--serial", "E5")
    assert "was not heard yet" in core("device", "show", "swap-2").out
    assert core.tell("swap-2", secret, volume=2.0).startswith("4.01")
    assert core.tell("swap-2", third["secret"], volume=2.0).startswith("2.04")
    refused = core("undo", str(third["operation"]))
    assert (refused.code, "in use by now" in refused.err) == (1, True)
    assert "not heard yet" not in core("device", "show", "swap-2").out
    assert core("device", "remove", "swap-2").code == 0
    refused = core("device", "edit", "swap-2", "--notes", "x")
    assert (refused.code, "iot device restore swap-2" in refused.err) == (1, True)


def test_a_unit_hangs_at_one_device_only(core: Core) -> None:
    core.add("swap-3", "native-water-meter", "--serial", "TWICE")
    core.add("swap-4", "native-water-meter")
    refused = core("device", "replace", "swap-4", "--serial", "TWICE")
    assert (refused.code, "mounted at swap-3" in refused.err) == (1, True)
    assert core("device", "replace", "swap-3", "--serial", "OTHER").code == 0
    assert core("device", "replace", "swap-4", "--serial", "TWICE").code == 0
    assert core("device", "replace", "swap-4", "--serial", "TWICE").code == 0  # its secret was lost: it gets another


def test_a_cell_that_would_be_a_formula_is_written_as_text(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    device_sheet.write(path, [{"key": "a-1", "name": "=HYPERLINK(1)"}])
    assert "'=HYPERLINK(1)" in path.read_text(encoding="utf-8-sig")


def test_a_list_without_keys_is_refused_with_its_headings(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,2\n")
    with pytest.raises(RequestError) as caught:
        device_sheet.read(path)
    assert caught.value.facts["headings"] == "x, y"


def test_a_dry_run_in_pieces_sees_doubles_across_them_and_gateways_that_stand_below(core: Core) -> None:
    first = [f"piece-{number:04},native-streetlight,," for number in range(CHUNK)]
    rows = [
        "leaf-9,native-streetlight,,hub-9",
        "hub-9,native-lighting-cabinet,,",
        "meter-1,tuf-2000m,127.0.0.9/7,",
        *first,
        "meter-2,tuf-2000m,127.0.0.9/7,",
        "piece-0007,native-streetlight,,",
        "leaf-10,native-streetlight,,nobody",
    ]
    path = core.folder / "pieces.csv"
    path.write_text("key,profile,address,gateway\n" + "\n".join(rows) + "\n")
    refused = core("device", "import", str(path), "--dry-run", "--output", "json")
    assert refused.code == 1
    said = json.loads(refused.out)
    problems = {(each["row"], each["column"]): each["code"] for each in said["problems"]}
    last = len(rows) + 1
    assert problems == {
        (last - 2, "address"): "registry.row_twice",
        (last - 1, "key"): "registry.row_twice",
        (last, "gateway"): "registry.no_gateway",
    }
    assert said["added"] == len(rows) - 3
    (twice,) = [each["detail"] for each in said["problems"] if each["column"] == "key"]
    assert "12" in twice, "the row where it stands already"


def test_rows_come_after_their_gateways_and_a_ring_of_gateways_ends() -> None:
    pairs = [("c", "b"), ("x", None), ("b", "a"), ("a", None), ("p", "q"), ("q", "p")]
    rows = [
        shapes.DeviceRow(row=number, key=key, profile="native-streetlight", gateway=gateway)
        for number, (key, gateway) in enumerate(pairs, 2)
    ]
    assert [row.key for row in gateways_first(rows)] == ["x", "a", "b", "c", "p", "q"]
