"""The reference and the schemas are made from the types, and say what the loader says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from iot_core.profiles import Profiles
from iot_core.profiles.document import Document
from iot_core.profiles.reference import class_schema, profile_schema, write_all

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "device_profiles").glob("[!_.]*/*.yaml"))
FAMILIES = sorted((ROOT / "device_profiles" / "_families").glob("*.yaml"))


def as_json(data: Any) -> Any:
    """Keys of YAML that are numbers are text in JSON."""
    if isinstance(data, dict):
        return {str(key): as_json(value) for key, value in data.items()}
    return [as_json(each) for each in data] if isinstance(data, list) else data


def mistakes(path: Path, schema: dict[str, Any]) -> list[str]:
    data = as_json(Document(path, path.read_text(encoding="utf-8")).data)
    validator = jsonschema.Draft202012Validator(schema)
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(data)]


def test_reference_and_schemas_are_current(tmp_path: Path) -> None:
    docs = tmp_path / "profiles.md"
    docs.write_text((ROOT / "docs" / "profiles.md").read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("profile.schema.json", "class.schema.json"):
        (tmp_path / name).write_text((ROOT / "device_profiles" / name).read_text(encoding="utf-8"), encoding="utf-8")
    changed = [path.name for path in write_all(docs, tmp_path)]
    assert changed == [], "run python -m iot_core.profiles.reference"


def test_every_key_of_the_language_is_explained() -> None:
    text = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
    silent = [line for line in text.splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert silent == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_shipped_file_fits_the_schema(path: Path) -> None:
    assert mistakes(path, class_schema() if path.name == "class.yaml" else profile_schema()) == []


def test_every_family_fits_the_schema_of_profiles() -> None:
    schema = profile_schema() | {"required": []}
    assert {path.name: mistakes(path, schema) for path in FAMILIES if mistakes(path, schema)} == {}


def test_the_schema_refuses_what_the_loader_refuses(tmp_path: Path, profiles: Profiles) -> None:
    shipped = Path(profiles.get("tuf-2000m").file).read_text(encoding="utf-8")
    for before, after in (("order: CDAB", "order: CDBA"), ("points:", "poins:"), ("address: 0,", "adress: 0,")):
        wrong = tmp_path / "wrong.yaml"
        wrong.write_text(shipped.replace(before, after), encoding="utf-8")
        assert mistakes(wrong, profile_schema())


@pytest.mark.parametrize("path", [*FILES, *FAMILIES], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_file_names_its_schema_for_editors(path: Path) -> None:
    name = "class" if path.name == "class.yaml" else "profile"
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    assert first == f"# yaml-language-server: $schema=../{name}.schema.json"
    assert (path.parent / f"../{name}.schema.json").exists()
