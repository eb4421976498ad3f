"""Writes the tables of docs/reliability.md from what runs found: python -m tests.faults.table"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.faults.result import Finding, load

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "reliability.md"
FAULTS: Final = (
    "| fault | what the core does | acknowledged | lost | doubled | back after | memory peak |\n"
    "|---|---|--:|--:|--:|--:|--:|"
)
BROKERS: Final = "| broker | what was done | acknowledged | lost | doubled | noted |\n|---|---|--:|--:|--:|---|"


def written(text: str, mark: str, head: str, rows: Iterable[str]) -> str:
    """Replace what stands between a mark's two lines."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- end {mark} -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    assert after, f"no {mark} in {DOCUMENT}"
    return before + begin + "\n".join([head, *rows, end]) + after


def fault_row(found: Finding) -> str:
    """Write one fault."""
    back = "" if found.back_s is None else f"{found.back_s:g} s"
    does = f"{found.does}. {found.noted}" if found.noted else found.does
    peak = f"{found.peak_mb} MB" if found.peak_mb else ""
    return f"| {found.title} | {does} | {found.acknowledged:,} | {found.lost:,} | {found.doubled:,} | {back} | {peak} |"


def broker_row(found: Finding) -> str:
    """Write what one broker's own acknowledgement is worth."""
    return (
        f"| {found.broker} | {found.title} | {found.acknowledged:,} | {found.lost:,} | {found.doubled:,} |"
        f" {found.noted} |"
    )


def main() -> None:
    """Write both tables."""
    found = [finding for _, finding in sorted(load().items())]
    text = DOCUMENT.read_text(encoding="utf-8")
    text = written(text, "faults", FAULTS, [fault_row(each) for each in found if not each.broker])
    text = written(text, "brokers", BROKERS, [broker_row(each) for each in found if each.broker])
    DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
