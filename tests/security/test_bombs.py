"""Files that stand for more than memory holds, and settings that would let a device take the core's place."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import openpyxl
import pytest

from iot_core.cli import area_files, sheets
from iot_core.errors import ConfigError, RequestError
from iot_core.profiles.document import Document
from iot_core.settings import load


def test_a_workbook_that_unpacks_to_more_than_memory_holds_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.create_sheet().append(["key"])
    plain = io.BytesIO()
    book.save(plain)
    file = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for each in source.infolist():
            packed.writestr(each, source.read(each))
        with packed.open("xl/worksheets/sheet9.xml", "w") as sheet:
            for _ in range(520):
                sheet.write(bytes(1024 * 1024))
    assert file.stat().st_size < 1024 * 1024
    with pytest.raises(RequestError, match=r"sheet\.too_large"):
        sheets.read(file)


def test_a_file_of_areas_that_is_too_large_or_too_deep_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "areas.geojson"
    file.write_text('{"features": ' + "[" * 100_000)
    with pytest.raises(RequestError, match=r"sheet\.not_geojson"):
        area_files.read(file)
    monkeypatch.setattr(sheets, "_MOST_BYTES", 1_000)
    with pytest.raises(RequestError, match=r"sheet\.too_large"):
        area_files.read(file)


def test_a_profile_of_aliases_of_aliases_is_refused(tmp_path: Path) -> None:
    lines = ['a0: &a0 ["x", "x", "x", "x", "x", "x", "x", "x", "x", "x"]']
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    file = tmp_path / "bomb.yaml"
    file.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"profile\.invalid") as said:
        Document(file, file.read_text())
    assert "entries" in str(said.value.facts["expected"])


@pytest.mark.parametrize("name", ["city-ingest", "aq-1", "all", "iot-corex"])
def test_the_cores_client_id_cannot_be_a_devices_key(tmp_path: Path, name: str) -> None:
    file = tmp_path / "iot.toml"
    file.write_text(f'[mqtt]\nclient_id = "{name}"\n')
    with pytest.raises(ConfigError, match=r"config\.invalid") as said:
        load(file, {})
    assert (said.value.facts["key"], said.value.facts["line"]) == ("mqtt.client_id", 2)


@pytest.mark.parametrize("name", ["iot-core-ingest", "iot-core-north", "iot-core", "City-ingest", "city_ingest"])
def test_a_client_id_that_no_device_can_have_is_taken(tmp_path: Path, name: str) -> None:
    file = tmp_path / "iot.toml"
    file.write_text(f'[mqtt]\nclient_id = "{name}"\n')
    assert load(file, {}).mqtt.client_id == name
