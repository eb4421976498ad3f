"""Who changed what: a row for every write, in the transaction of the write; never a secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

__all__ = ["Change", "record"]

_ADD: Final = """
INSERT INTO iot.audit (by, action, subject, before, after)
SELECT $1, $2, change.subject, change.before, change.after
FROM unnest($3::text[], $4::jsonb[], $5::jsonb[]) AS change (subject, before, after)
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing before and after: None where it was not there. `subject` is `device/aq-001`."""

    subject: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


async def record(connection: asyncpg.Connection, by: str, action: str, *changes: Change) -> None:
    """Write what `by` did, inside the caller's transaction."""
    await connection.execute(
        _ADD, by, action, _subjects(changes), [each.before for each in changes], [each.after for each in changes]
    )


def _subjects(changes: Sequence[Change]) -> list[str]:
    return [each.subject for each in changes]
