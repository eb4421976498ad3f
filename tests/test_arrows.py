"""Imports go one way, so that each part can be read, tested and replaced without the ones above it.

model, errors <- driver <- drivers          {store, registry} <- broker
model <- profiles                           all of these <- api <- app
store <- registry <- push <- alarms <- ingest
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from tests.servers import ROOT

OURS = ("iot_core", "drivers", "simulators", "grafana")
WORDS = {"model", "hours", "errors", "settings", "messages", "folding", "cells", "cancelled"}
STORE = WORDS | {"state", "children"}
PATH = WORDS | {"profiles", "store", "registry", "push", "alarms"}
CORE = PATH | {
    "derived",
    "asking",
    "claiming",
    "commanding",
    "state",
    "children",
    "counters",
    "driver",
    "ingest",
    "broker",
    "supervisor",
}

SHARED = {"shapes", "sse", "pinned", "late_certificates"}
"""Modules of `api` that clients use too: what goes over the wire, and what is trusted."""

MAY_IMPORT = {
    "model": set(),
    "errors": set(),
    "folding": set(),
    "sparkplug": {"errors", "model"},
    "cells": set(),
    "hours": {"errors"},
    "cancelled": set(),
    "counters": set(),
    "derived": set(),
    "settings": {"errors", "model"},
    "messages": {"settings"},
    "state": {"errors", "settings"},
    "children": {"state"},
    "driver": {"model", "errors"},
    "profiles": {"model", "errors", "hours", "sparkplug"},
    "store": STORE,
    "registry": WORDS | {"store", "state"},
    "push": WORDS | {"store", "registry", "state"},
    "alarms": WORDS | {"profiles", "store", "registry", "push", "derived"},
    "ingest": PATH | {"counters"},
    "asking": WORDS,
    "claiming": WORDS | {"store", "registry", "driver"},
    "commanding": WORDS | {"profiles", "store", "registry"},
    "broker": STORE | {"driver", "store", "registry", "sparkplug"},
    "supervisor": WORDS | {"store"},
    "opened": WORDS | {"profiles", "store"},
    "renewal": PATH | {"opened", "ingest", "broker", "counters"},
    "api": CORE - {"supervisor"},
    "app": CORE | {"api", "opened", "renewal"},
    "client": WORDS | {"api.shapes"},
    "cli": WORDS | {"api.shapes", "client", "profiles", "state"},
    "drivers": WORDS | {"driver", "sparkplug"},
    "tools": WORDS | {"driver", "drivers", "profiles", "cli", "api.shapes"},
    "grafana": WORDS | {"profiles", "cli"},
    "simulators": WORDS | {"sparkplug", "profiles", "state", "client", "cli", "api.shapes", "app"},
    "bench": CORE | {"opened", "client", "cli", "api.shapes", "app", "simulators", "drivers"},
}
MAY_NAME_TYPES_OF = {
    "errors": {"model"},
    "messages": {"errors", "model"},
    "driver": {"profiles", "settings"},
    "asking": {"driver", "profiles"},
    "claiming": {"profiles"},
    "commanding": {"driver"},
    "drivers": {"profiles"},
    "registry": {"profiles"},
    "broker": {"profiles"},
    "cli": {"store"},
}
"""Under TYPE_CHECKING, beyond what may be imported."""
MAY_IMPORT_WHEN_CALLED = {"cli": {"app", "store"}}
"""Inside a function: `iot up` runs a server, `iot db` asks the database, `iot device list` must load neither."""


@dataclass(frozen=True, slots=True)
class Import:
    """One of our modules that names another one."""

    source: str
    target: str
    where: str
    types_only: bool
    in_function: bool


def part(module: str) -> str:
    """Give the part of the drawing that a module belongs to."""
    words = module.split(".")
    if words[:2] == ["simulators", "bench"]:
        return "bench"  # measures the core's own steps, so it may name them; the city may not
    if words[:3] == ["drivers", "modbus", "tools"]:
        return "tools"  # a technician's commands: they stand on the driver and on the profiles
    if words[0] != "iot_core" or len(words) == 1:
        return words[0]
    if words[1] == "api" and words[2:3] and words[2] in SHARED:
        return "api.shapes"
    return "iot_core" if words[1].startswith("__") else words[1]


@cache
def imports() -> tuple[Import, ...]:
    """Read every import between parts from the source."""
    return tuple(
        found for package in OURS for path in (ROOT / package).rglob("*.py") for found in imports_of(str(path))
    )


def imports_of(path: str) -> Iterator[Import]:
    """Read one file's imports of other parts."""
    where = path.removeprefix(f"{ROOT}/")
    source = part(where.removesuffix(".py").replace("/", ".")).partition(".")[0]
    tree = parsed(path)
    types = inside(tree, lambda node: isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    functions = inside(tree, lambda node: isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    for node in ast.walk(tree):
        for module in modules(node):
            target = part(module)
            if module.split(".")[0] in OURS and target.partition(".")[0] != source and target != "iot_core":
                yield Import(source, target, f"{where}:{getattr(node, 'lineno', 0)}", node in types, node in functions)


def parsed(path: str) -> ast.Module:
    """Parse a file."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - the path is a cache key
        return ast.parse(file.read())


def inside(tree: ast.AST, wanted: object) -> set[ast.AST]:
    """Give everything below the nodes that `wanted` accepts."""
    assert callable(wanted)
    return {below for node in ast.walk(tree) if wanted(node) for below in ast.walk(node)}


def modules(node: ast.AST) -> list[str]:
    """Name the modules that an import statement names; `from iot_core.api import shapes` names the module shapes."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def allowed(found: Import) -> bool:
    """Say whether an import goes along an arrow."""
    may = set(MAY_IMPORT.get(found.source, set()))
    if found.types_only:
        may |= MAY_NAME_TYPES_OF.get(found.source, set())
    if found.in_function:
        may |= MAY_IMPORT_WHEN_CALLED.get(found.source, set())
    return found.target in may or (found.target == "api.shapes" and "api" in may)


def test_imports_follow_the_arrows() -> None:
    against = [f"{found.where}: {found.source} -> {found.target}" for found in imports() if not allowed(found)]
    assert against == []


def test_core_knows_no_protocol_simulator_or_dashboard() -> None:
    outward = [found.where for found in imports() if found.target in OURS and found.where.startswith("iot_core/")]
    assert outward == []


def test_every_part_is_in_the_drawing() -> None:
    parts = {
        path.stem for path in (ROOT / "iot_core").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert parts - {"__init__"} <= MAY_IMPORT.keys()


def test_only_settings_read_the_environment() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for package in OURS
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(parsed(str(path)))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"})
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {"environ", "getenv"} & {a.name for a in node.names}
        )
    }
    assert readers <= {"iot_core/settings.py"}


@pytest.mark.parametrize(
    ("source", "target", "types_only", "fine"),
    [
        ("store", "registry", False, False),
        ("registry", "store", False, True),
        ("errors", "model", False, False),
        ("errors", "model", True, True),
        ("cli", "app", False, False),
        ("cli", "api", False, False),
        ("ingest", "drivers", False, False),
    ],
)
def test_the_judge_of_arrows_is_awake(source: str, target: str, *, types_only: bool, fine: bool) -> None:
    assert allowed(Import(source, target, "x.py:1", types_only, in_function=False)) is fine
