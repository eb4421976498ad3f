"""docs/alarms.md says what the software does: its table of rules, its example, its webhook body."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from iot_core.alarms.rules import compile_rule
from iot_core.alarms.say import say
from iot_core.model import AlarmRule, Comparison, Severity
from iot_core.profiles import load
from iot_core.push.targets import add
from iot_core.push.webhook import headers, new_secret
from tests.alarms.city import City, smoke

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[2] / "docs" / "alarms.md"


def between(start: str, end: str) -> str:
    return DOCS.read_text(encoding="utf-8").split(start)[1].split(end)[0]


def shown(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    return "" if not seconds else f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"


def condition(rule: AlarmRule) -> str:
    if rule.comparison is Comparison.SILENT:
        return f"silent for {rule.threshold:g} intervals"
    if rule.metric is None or rule.over or rule.hours:
        bare = replace(rule, hysteresis=0.0, on_delay=timedelta(0), latched=False, momentary=False)
        return say(bare, "en").replace(f"{rule.key.partition('.')[0]}.", "")
    limit = str(rule.threshold).lower() if isinstance(rule.threshold, bool | str) else f"{rule.threshold:g}"
    word = "=" if rule.comparison is Comparison.EQUALS else rule.comparison.value
    return f"`{rule.metric}` {word} {limit}"


def table() -> Iterator[str]:
    yield "| rule | severity | when | for | hysteresis | latched | title | source of the limit |"
    yield "|---|---|---|---|---|---|---|---|"
    for device_class in load().classes.values():
        for rule in device_class.rules:
            hysteresis = f"{rule.hysteresis:g}" if rule.hysteresis else ""
            cells = (
                f"`{rule.key}`",
                rule.severity.value,
                condition(rule),
                shown(rule.on_delay),
                hysteresis,
                "momentary" if rule.momentary else "yes" if rule.latched else "",
                f"{rule.title.vi} / {rule.title.en}",
                rule.source,
            )
            yield f"| {' | '.join(cells)} |"


def test_every_default_rule_says_what_to_do() -> None:
    rules = [rule for device_class in load().classes.values() for rule in device_class.rules]
    assert [rule.key for rule in rules if rule.runbook is None or not (rule.runbook.vi and rule.runbook.en)] == []


def test_default_rules_are_said_in_vietnamese_too() -> None:
    english = re.compile(r"\b(above|below|silent|all of|any of|for|gone|latched|within|hours|rate|devices)\b")
    for device_class in load().classes.values():
        for rule in device_class.rules:
            said = say(rule, "vi")
            assert not english.search(re.sub(r"\w+\.\w+", "", said)), said  # names of rules stay
            assert "{" not in said
    quick = next(rule for rule in load().classes["fire_detector"].rules if rule.key == "fire_detector.co_300")
    assert say(quick, "vi") == "co trên 299.9, độ trễ 20, kéo dài 2m, giữ đến khi xác nhận"


@pytest.mark.parametrize("level", [50, 100, 300])
def test_carbon_monoxide_is_told_from_the_very_number_of_its_rule_on(level: int) -> None:
    rules = {rule.key: rule for rule in load().classes["fire_detector"].rules}
    raises = compile_rule(rules[f"fire_detector.co_{level}"]).raises
    assert (raises(level - 0.1), raises(float(level))) == (False, True)


def test_table_of_default_rules_is_that_of_the_classes() -> None:
    expected = "\n".join(table())
    written = between("prints this table when it differs -->\n", "\n<!-- /rules")
    assert written == expected, f"docs/alarms.md should say:\n{expected}"


def test_every_rule_has_a_source() -> None:
    assert not [rule.key for each in load().classes.values() for rule in each.rules if not rule.source.strip()]


def test_example_of_checking_a_message_works() -> None:
    example = between("<!-- example: run by tests/alarms/test_docs.py -->\n```python\n", "```")
    space: dict[str, Any] = {}
    exec(example, space)  # noqa: S102 - the page's own example
    secret, body = new_secret(), '{"text": "cháy"}'.encode()
    signed = headers(secret, "msg_1", body)
    assert space["verify"](secret, signed, body)
    assert not space["verify"](secret, signed, body + b" ")
    assert not space["verify"](new_secret(), signed, body)
    assert not space["verify"](secret, headers(secret, "msg_1", body, now=0), body)


async def test_webhook_body_has_the_fields_that_are_written(city: City) -> None:
    page = msgspec.json.decode(re.findall(r"```json\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[0])
    async with city.pool.acquire() as connection:
        await add(connection, "ioc", "http://127.0.0.1:9/", allow_private=True)
    await city.flush(smoke(await city.device("fire-1", "detector"), 0))
    body = await city.pool.fetchval("SELECT body FROM iot.outbox")
    assert set(page["data"]["alarm"]["runbook"]) == {"vi", "en"}
    page["data"]["alarm"]["runbook"] = None  # this city's rule has none
    assert fields(body) == fields(page)
    assert len(body["data"]["origin"]["via"]) == len(page["data"]["origin"]["via"])


def fields(value: object) -> object:
    return {key: fields(inner) for key, inner in value.items()} if isinstance(value, dict) else None


def test_every_critical_default_rule_says_what_to_do() -> None:
    rules = [rule for device_class in load().classes.values() for rule in device_class.rules]
    mute = [rule.key for rule in rules if rule.severity is Severity.CRITICAL and rule.runbook is None]
    assert mute == [], "an operator who sees these is told nothing"
