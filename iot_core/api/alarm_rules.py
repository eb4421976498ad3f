"""Rules of alarms: what people changed, what holds at a device, changing it, trying it over what is stored."""

from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from iot_core.alarms.book import RuleRow
from iot_core.alarms.changes import book_with, change_rule, laid_there, reach_of, rows, rules_at, where_of
from iot_core.alarms.say import say
from iot_core.alarms.times import Times
from iot_core.alarms.trial import Trial, part_of
from iot_core.api import shapes
from iot_core.api.households import withheld
from iot_core.api.roles import Action, outside
from iot_core.api.routes import Call, NoQuery, Reach, get, post
from iot_core.api.within import require_areas, require_devices
from iot_core.errors import ConfigError, NotFoundError, RequestError
from iot_core.model import DeviceClass, is_metric_key
from iot_core.registry.audit import Change, record

_LONGEST: Final = timedelta(days=366)


async def list_(call: Call[NoQuery]) -> shapes.RuleLaidList:
    """List what people changed of the rules of the classes, and the rules that they made."""
    async with call.connection() as connection:
        found = await rows(connection, within=call.areas)
    return shapes.RuleLaidList(items=tuple(_laid(row) for row in found))


async def at_device(call: Call[NoQuery]) -> shapes.RulesAt:
    """Explain a device's rules: each as it holds there, with the changes that made it so."""
    key = call.path["key"]
    async with call.connection() as connection:
        found = await rules_at(connection, call.services.profiles.classes, key)
    return shapes.RulesAt(
        device=key,
        items=tuple(
            shapes.RuleAt(
                rule=rule.key, title=rule.title, severity=rule.severity, said=say(rule, call.lang) if holds else None,
                source=rule.source, changes=tuple(_laid(row) for row in laid),
            )
            for rule, laid, holds in found
        ),
    )  # fmt: skip


async def change(call: Call[NoQuery], body: shapes.RuleChange) -> shapes.RuleChanged:
    """Lay a change over a rule for the class, an area, a label or a device; it holds at once, everywhere."""
    rule = call.path["rule"]
    device_class = _class_of(call, rule)
    async with call.connection() as connection, connection.transaction():
        await _require(call, connection, body.where)
        where = await where_of(connection, body.where)
        before = await laid_there(connection, rule, where)
        try:
            found, devices = await change_rule(
                connection, device_class, rule, where, body.body, by=call.who.name, version=body.version,
                apply=not body.preview, classes=call.services.profiles.classes,
            )  # fmt: skip
        except ConfigError as exc:
            raise _wrong(exc) from exc
        if not body.preview:
            at = body.where or "class"
            changed = Change(f"rule/{rule}", {at: before}, {at: body.body})
            await record(connection, call.who.name, "rule.change", changed)
    return shapes.RuleChanged(
        rule=rule, where=body.where or f"class={device_class.key}",
        said=None if found is None else say(found, call.lang),
        severity=None if found is None else found.severity, devices=devices, applied=not body.preview,
        life_safety=device_class.life_safety,
    )  # fmt: skip


def _class_of(call: Call[NoQuery], rule: str) -> DeviceClass:
    class_key, _, name = rule.partition(".")
    found = call.services.profiles.classes.get(class_key)
    if found is None or not is_metric_key(name):
        raise NotFoundError("rule.no_class", rule=rule)
    return found


def _wrong(error: ConfigError) -> RequestError:
    """Say it of the rule that was sent, not of a profile's file here."""
    return RequestError("rule.invalid" if error.code == "profile.invalid" else error.code, **error.facts)


async def _require(call: Call[NoQuery], connection: asyncpg.Connection, where: str) -> None:
    """Refuse a change that holds elsewhere too: for a class or a label it does."""
    kind, _, name = where.partition("=")
    if call.areas is None:
        return
    if kind == "area" and name:
        await require_areas(call, connection, [name])
    elif kind == "device" and name:
        await require_devices(call, connection, [name])
    else:
        raise outside(call.who, call.action or Action.PUSH, "*")


async def try_(call: Call[NoQuery], body: shapes.RuleTry) -> shapes.RuleTried:
    """Say what a rule would have raised over what is stored, as it is or with a change, at some of its devices."""
    rule, until = call.path["rule"], body.until or datetime.now(UTC)
    if not timedelta(0) < until - body.since <= _LONGEST:
        raise RequestError("rule.bad_span", days=_LONGEST.days)
    profiles = call.services.profiles
    device_class = _class_of(call, rule)
    async with call.reader() as connection:
        await _require(call, connection, body.where)
        where = await where_of(connection, body.where)
        if body.body is not None:
            try:
                await change_rule(
                    connection, device_class, rule, where, body.body, by=call.who.name, apply=False,
                    classes=profiles.classes,
                )  # fmt: skip
            except ConfigError as exc:
                raise _wrong(exc) from exc
        now = await book_with(connection, profiles, rule, where, None)
        then = await book_with(connection, profiles, rule, where, body.body) if body.body is not None else now
        only = await reach_of(connection, rule, where)
        watch = next((each for book in (then, now) for each in book.all() if each.rule.key == rule), None)
        if watch is None:
            raise NotFoundError("rule.no_such", rule=rule)
        times = Times()
        await times.load(connection)
        part = await part_of(connection, watch, only, body.after, body.most)
        hidden = await withheld(call, connection, [(each, device_class.key) for each in part.devices])
        part = part.without(hidden)
        span = {"connection": connection, "times": times, "rule": rule, "since": body.since, "until": until}
        found = await Trial(book=then, **span).at(part)
        before = found if then is now else await Trial(book=now, **span).at(part)
    return shapes.RuleTried(
        rule=rule, where=body.where or f"class={device_class.key}", said=say(watch.rule, call.lang),
        devices=len(part.devices),
        raised=tuple(
            shapes.RuleRaised(
                source=each.source, raised_at=each.episode.raised_at, cleared_at=each.episode.cleared_at,
                severity=each.episode.severity, value=each.episode.value,
            )
            for each in found
        ),
        now=len(before), next=part.place,
    )  # fmt: skip


def _laid(row: RuleRow) -> shapes.RuleLaid:
    return shapes.RuleLaid(
        rule=row.rule, where=row.where, body=dict(row.body), version=row.version, by=row.by, created_at=row.created_at
    )


routes = (
    get("/rules", list_, reach=Reach.OWN),
    post("/rules/{rule}", change, Action.PUSH, reach=Reach.OWN),
    post("/rules/{rule}/try", try_, Action.READ, reach=Reach.OWN),
    get("/devices/{key}/rules", at_device),
)
