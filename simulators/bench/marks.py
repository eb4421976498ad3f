"""What the benchmarks are to reach, and whether they did: the first table of docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import ge, le
from typing import Any, Final, NamedTuple

__all__ = ["judged"]

Result = Mapping[str, Any]
Row = tuple[str, str, str, str, str]


class Mark(NamedTuple):
    """What it is, where its figure stands in a result, at least (ge) or at most (le), how much, of what.

    A figure that is null was not measured; where `waited`, it was waited for in vain.
    """

    what: str
    path: str
    holds: Callable[[float, float], bool]
    most: float
    ucum: str
    waited: bool = False


_FULL_SPEED: Final[Sequence[Mark]] = (
    Mark("messages a second", "messages_per_s", ge, 20_000, ""),
    Mark("times the baseline", "ratio", ge, 20, "x"),
    Mark("the core's CPU a message", "cpu_us_per_message.core", le, 45, "us"),
)
_MARKS: Final[Mapping[str, Sequence[Mark]]] = {
    "coap": (
        Mark("CON, stored before 2.04, a second", "con.messages_per_s", ge, 2_000, ""),
        Mark("NON a second", "non.messages_per_s", ge, 3_000, ""),
    ),
    "modbus": (
        Mark("the core's share of one core", "core_share", le, 0.4, ""),
        Mark("the latest poll", "late_ms.max", le, 1_000, "ms late"),
    ),
    "store": (
        Mark("rows a second, full against empty table", "full_to_empty", ge, 0.8, "x"),
        Mark("bytes a reading of a closed week, indexes included", "bytes_per_reading_of_closed_weeks", le, 24, ""),
        Mark("bytes a reading, compressed", "bytes_per_reading_compressed", le, 4, ""),
    ),
    "size": (
        Mark("bytes a reading, indexes included", "bytes_per_reading", le, 24, ""),
        Mark("bytes a reading, compressed", "compressed_bytes_per_reading", le, 4, ""),
    ),
    "outage": (Mark("live again after the database's return", "live_again_s", le, 90, "s", waited=True),),
    "query": (
        Mark("newest values of 10,000 devices, over HTTP", "http_ms.latest_of_all.p50", le, 100, "ms"),
        Mark("the same, p95", "http_ms.latest_of_all.p95", le, 100, "ms"),
        Mark("30 days of a metric, over HTTP", "http_ms.month_of_one_metric.p50", le, 50, "ms"),
        Mark("30 days of 500 devices, over HTTP", "http_ms.month_of_500_devices.p50", le, 300, "ms"),
    ),
    "registry": (
        Mark("list, the slowest question's p95", "worst_p95_ms.list", le, 150, "ms"),
        Mark("search, the slowest question's p95", "worst_p95_ms.search", le, 150, "ms"),
        Mark("show, p95", "worst_p95_ms.show", le, 150, "ms"),
        Mark("10,000 rows imported", "imported.first_s", le, 20, "s"),
        Mark("changes when they are imported again", "imported.again_changes", le, 0, ""),
        Mark("1,000 claims accepted, and their secrets given", "claimed.all_s", le, 10, "s"),
        Mark("1,000 claims over MQTT at once, until all wait", "claimed_mqtt.claim_s", le, 10, "s"),
        Mark("those accepted, and their secrets heard", "claimed_mqtt.all_s", le, 10, "s"),
        Mark("a core's start", "start_s", le, 10, "s"),
        Mark("lamps online before they connected", "online_before_connected", le, 0, ""),
        Mark("presence after a lamp's connection, the latest", "presence_s.max", le, 2, "s"),
        Mark("a command to 1,000 lamps", "command_s", le, 10, "s"),
    ),
    "alarms": (
        Mark(
            "rules, the core's CPU a message, with 100,000 pairs",
            "cost.us_a_message.one_in_a_hundred_open",
            le,
            10,
            "us",
        ),
        Mark(
            "a fire's uplink to its receipt, p99, at 3,000 messages/s", "fire.uplink_to_receipt_ms.p99", le, 300, "ms"
        ),
        Mark("transitions a second, with push", "transitions.per_s", ge, 2_000, ""),
        Mark("a storm of 5,000 until the screen is quiet", "storm.quiet_s", le, 10, "s", waited=True),
        Mark("a fire in it, its uplink to its receipt, p99", "storm.fire_to_receipt_ms.p99", le, 300, "ms"),
        Mark("10,000 messages to a target that was down for an hour", "drain.drained_s", le, 60, "s"),
        Mark("fires lost when the core is killed", "kills.lost", le, 0, ""),
        Mark("fires without a receipt then", "kills.without_receipt", le, 0, ""),
        Mark("doubles with another id then", "kills.doubles_with_another_id", le, 0, ""),
    ),
    "start": (Mark("the core's memory after its start", "memory_peak_mb", le, 300, "MB"),),
}
_PACED: Final[Sequence[Mark]] = (Mark("publish to commit, p99", "publish_to_commit_ms.p99", le, 200, "ms"),)
_MANY: Final[Sequence[Mark]] = (
    Mark("the core's memory, most during the run", "memory_peak_mb", le, 300, "MB"),
    Mark("the core's CPU a message, against few devices", "flat_cost.core", le, 1.2, "x"),
    Mark("the database's CPU a message, against few devices", "flat_cost.database", le, 1.2, "x"),
)
_NOTHING: Final = Mark("lost and doubled", "", le, 0, "")
_CITY: Final = 100_000


def judged(results: Sequence[Result]) -> list[Row]:
    """Give a row for each mark: what was run, what is judged, its mark, its figure, whether it holds."""
    rows = []
    for each in results:
        for mark in _marks(each):
            figure = _at(each, mark.path)
            if isinstance(figure, int | float) or (mark.waited and _asked(each, mark.path)):
                rows.append(_row(each, mark, figure))
        if "lost" in each:
            rows.append(_row(each, _NOTHING, each["lost"] + each.get("duplicate", 0)))
    return rows


def _marks(result: Result) -> Sequence[Mark]:
    settings = result["settings"]
    if result["bench"] != "ingest":
        marks = _MARKS.get(result["bench"], ())
        # Digits that no sensor has are no reading: their figure is told, and judged by nothing.
        return marks[:1] if settings.get("digits") == "class" else marks
    if settings["rate"]:
        return _PACED
    if settings["profile"] or not settings["receipts"]:
        return ()
    return _MANY if settings["devices"] >= _CITY else _FULL_SPEED


def _row(result: Result, mark: Mark, figure: float | None) -> Row:
    settings = result["settings"]
    name = f"{result['bench']}, {result.get('tier') or settings.get('store', 'embedded')}"
    if "devices" in settings:
        name += f", {settings['devices']:,} devices"
    if mark.path.startswith("kills."):
        name += f", {settings['kills']} kills"
    if "digits" in settings:
        name += f", digits of the {settings['digits']}"
    if settings.get("rate"):
        name += f", {settings['rate']:,g}/s"
    word = "at least" if mark.holds is ge else "at most"
    return (
        name,
        mark.what,
        f"{word} {mark.most:,g} {mark.ucum}".rstrip(),
        "not in the time it was given" if figure is None else f"{figure:,} {mark.ucum}".rstrip(),
        "yes" if figure is not None and mark.holds(figure, mark.most) else "**no**",
    )


def _asked(result: Result, path: str) -> bool:
    *above, name = path.split(".")
    return name in (_at(result, ".".join(above)) or {} if above else result)


def _at(figures: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(figures, Mapping) or name not in figures:
            return None
        figures = figures[name]
    return figures
