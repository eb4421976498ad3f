"""docs/security.md says what the code does, and names tests that exist."""

from __future__ import annotations

import re
from typing import Final

import pytest

from iot_core.api.rights_table import PAGES, ROOT, written
from iot_core.api.roles import TABLE, Action
from iot_core.api.shapes import Role
from iot_core.messages import text

GROUPS: Final = 13


@pytest.mark.parametrize("lang", ["en", "vi"])
def test_the_tables_of_the_page_are_those_of_the_code(lang: str) -> None:
    page = PAGES[lang].read_text(encoding="utf-8")
    assert page == written(page, lang), "write them anew: .venv/bin/python -m iot_core.api.rights_table"


@pytest.mark.parametrize("lang", ["en", "vi"])
@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("role", list(Role))
def test_the_page_says_of_each_role_and_action_what_the_table_says(role: Role, action: Action, lang: str) -> None:
    page = PAGES[lang].read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if line.startswith(f"| `{action.value}` |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert (cells[1 + list(TABLE).index(role)] == "✓") is (action in TABLE[role])
    assert cells[-1] == text(f"rights.{action.value}", lang) != f"rights.{action.value}"


def test_every_provision_names_tests_that_exist_or_what_is_missing() -> None:
    page = PAGES["en"].read_text(encoding="utf-8")
    rows = re.findall(r"^\| (5\.\d+) [^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|$", page, re.MULTILINE)
    assert [row[0] for row in rows] == [f"5.{number}" for number in range(1, GROUPS + 1)]
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"def (test_\w+)\(", sources))
    for provision, _, tests, missing in rows:
        named = re.findall(r"`(test_\w+)`", tests)
        assert named or missing.strip(), provision
        assert set(named) <= there, (provision, set(named) - there)


def test_security_md_says_where_to_report_and_which_versions_are_supported() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for heading in ("## Reporting a vulnerability", "## Supported versions"):
        assert heading in page
    assert "90 days" in page


def test_dependencies_are_locked_with_hashes_and_installed_by_them() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.findall(
        r"^([a-z0-9][^\s=]*)==\S+ ?([^\n]*)\n((?: +--hash=sha256:[0-9a-f]{64}[ \\]*\n)*)", lock, re.MULTILINE
    )
    assert len(pinned) > 50
    assert not [name for name, _, hashes in pinned if not hashes]
    assert not re.findall(r"^[a-z0-9][^=\n]*$", lock, re.MULTILINE), "what is not pinned"
    assert "--require-hashes -r requirements.lock" in (ROOT / "scripts" / "setup").read_text(encoding="utf-8")
