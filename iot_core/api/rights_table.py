"""The table of docs/security.md and docs/vi/security.md, from the code: `python -m iot_core.api.rights_table`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from iot_core.api.roles import TABLE, Action
from iot_core.messages import text

__all__ = ["PAGES", "written"]

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = {"en": ROOT / "docs" / "security.md", "vi": ROOT / "docs" / "vi" / "security.md"}
_BLOCK: Final = re.compile(r"(<!-- roles: begin -->\n).*?(<!-- roles: end -->)", re.DOTALL)


def written(page: str, lang: str) -> str:
    """Give a page with its table as the code has it."""
    return _BLOCK.sub(lambda found: f"{found[1]}{_roles(lang)}{found[2]}", page)


def _roles(lang: str) -> str:
    head = ["", *(role.value for role in TABLE), text("rights.allows", lang)]
    rows = [
        [f"`{action.value}`", *("✓" if action in allowed else "" for allowed in TABLE.values()), _allows(action, lang)]
        for action in Action
    ]
    return _table([head, *rows])


def _allows(action: Action, lang: str) -> str:
    return text(f"rights.{action.value}", lang)


def _table(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def main() -> None:
    """Write both pages."""
    for lang, page in PAGES.items():
        page.write_text(written(page.read_text(encoding="utf-8"), lang), encoding="utf-8")


if __name__ == "__main__":
    main()
