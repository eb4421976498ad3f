"""What was changed, by whom; and the way back."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from iot_core.api import shapes
from iot_core.api.households import PUBLIC, require_publishing
from iot_core.api.roles import Action, where
from iot_core.api.routes import Call, NoQuery, Reach, get, post
from iot_core.api.within import require_subjects
from iot_core.errors import NotFoundError
from iot_core.registry import area_changes, audit
from iot_core.registry.undo import undo as undo_operation

SHOWN: Final = 100
_GUARDED: Final = {"push": Action.PUSH, "token": Action.TOKENS, "user": Action.USERS}


async def entries(call: Call[shapes.AuditQuery]) -> shapes.Audit:
    """List what was changed, the newest first; of push targets and tokens only to who may see those."""
    asked = call.query
    hidden = [kind for kind, action in _GUARDED.items() if where(call.who, action) is not None]
    async with call.connection() as connection:
        found = await audit.entries(
            connection,
            key=asked.key,
            by=asked.by,
            since=asked.since,
            operation=asked.operation,
            hidden=hidden,
            areas=call.areas,
            limit=asked.limit,
        )
    return shapes.Audit(items=tuple(msgspec.convert(each, shapes.AuditEntry, from_attributes=True) for each in found))


async def undo(call: Call[NoQuery]) -> shapes.Changed:
    """Take an operation back; refused when what it changed was changed again since."""
    number = call.number("number", NotFoundError("registry.no_operation", number=call.path["number"]))
    async with call.connection() as connection:
        changes = await audit.changes_of(connection, number)
        if call.areas is not None:
            await require_subjects(call, connection, changes)
        if any(_publishes(each) for each in changes):
            require_publishing(call)
        return changed(await undo_operation(connection, number, by=call.who.name), dry=False)


def _publishes(change: audit.Change) -> bool:
    """Say whether taking a change back gives a device the label again that shows it to everybody."""
    return PUBLIC in _labels(change.before) and PUBLIC not in _labels(change.after)


def _labels(side: Mapping[str, Any] | None) -> Sequence[str]:
    return (side or {}).get("labels") or ()


def changed(done: area_changes.Changed, *, dry: bool, warnings: Sequence[str] = ()) -> shapes.Changed:
    """Say what an operation changed, or would."""
    shown = tuple(
        shapes.Change(subject=each.subject, before=_plain(each.before), after=_plain(each.after))
        for each in done.changes[:SHOWN]
    )
    return shapes.Changed(
        operation=None if dry else done.operation, total=len(done.changes), changes=shown, warnings=tuple(warnings)
    )


def _plain(side: Mapping[str, Any] | None) -> dict[str, Any] | None:
    plain: dict[str, Any] | None = msgspec.to_builtins(side)
    return plain


routes = (
    get("/audit", entries, action=Action.AUDIT, reach=Reach.OWN),
    post("/operations/{number}/undo", undo, Action.AREAS, reach=Reach.OWN),
)
