"""What a run found, kept between runs in one JSON file, so that documents are made from it (tests/faults/table.py)."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from tests.faults.ledger import Verdict

if TYPE_CHECKING:
    from tests.up import Up

RESULTS: Final = Path(__file__).parents[2] / "build" / "faults.json"


class Finding(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One fault as it went."""

    title: str
    does: str
    broker: str = ""
    """Set where the finding is what a broker's own PUBACK is worth."""
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    back_s: float | None = None
    """Seconds from the end of the fault until new messages were stored again."""
    peak_mb: int = 0
    noted: str = ""


@dataclass
class Recorder:
    """Given to a test, which says what it saw; the row is written when the test has passed."""

    finding: Finding
    seen: bool = False
    brokers: list[Finding] = field(default_factory=list)

    def __call__(self, verdict: Verdict, up: Up | None = None, *, back_s: float | None = None, noted: str = "") -> None:
        self.seen = True
        self.finding.acknowledged += verdict.acknowledged
        self.finding.lost += len(verdict.lost)
        self.finding.doubled += len(verdict.doubled)
        self.finding.noted = noted or self.finding.noted
        if back_s is not None:
            self.finding.back_s = round(max(back_s, self.finding.back_s or 0.0), 1)
        if up is not None:
            self.finding.peak_mb = max(self.finding.peak_mb, round(up.measure() / 1024))

    def puback(self, broker: str, title: str, verdict: Verdict, noted: str = "") -> None:
        """Write down what one broker's own acknowledgement was worth."""
        found = Finding(title=title, does="", broker=broker, noted=noted)
        found.acknowledged, found.lost, found.doubled = verdict.acknowledged, len(verdict.lost), len(verdict.doubled)
        self.brokers.append(found)


def load(file: Path = RESULTS) -> dict[str, Finding]:
    """Read what runs found so far, by test."""
    return msgspec.json.decode(file.read_bytes(), type=dict[str, Finding]) if file.exists() else {}


def save(findings: dict[str, Finding], file: Path = RESULTS) -> None:
    """Add what this run found, of which several processes have each a part."""
    file.parent.mkdir(exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file.write_bytes(msgspec.json.format(msgspec.json.encode({**load(file), **findings})) + b"\n")
