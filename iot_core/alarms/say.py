"""A rule in one line, alike in every language: `level above 80 (back below 75), for 5m`."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from iot_core.model import AlarmRule, Comparison, RuleTerm

__all__ = ["say"]

_ZERO: Final = timedelta(0)


def say(rule: AlarmRule) -> str:
    """Write it down."""
    parts = [_condition(rule)]
    if rule.hysteresis:
        parts.append(f"hysteresis {rule.hysteresis:g}")
    if rule.on_delay > _ZERO:
        parts.append(f"for {_span(rule.on_delay)}")
    if rule.off_delay > _ZERO:
        parts.append(f"gone for {_span(rule.off_delay)}")
    parts += [f"{severity} from {at:g}" for at, severity in rule.steps]
    if rule.hours:
        parts.append(f"hours {rule.hours}")
    if rule.latched:
        parts.append("momentary" if rule.momentary else "latched")
    return ", ".join(parts)


def _condition(rule: AlarmRule) -> str:
    of = rule.derived or rule.metric or ""
    if rule.comparison is Comparison.TERMS:
        return _group(rule.terms, rule.least)
    if rule.comparison is Comparison.DEVICES:
        where = f"an area of kind {rule.area_kind}" if rule.area_kind else "an area"
        return f"{rule.least} devices of {where} with {' or '.join(rule.rules)} within {_span(rule.over)}"
    if rule.comparison is Comparison.SILENT:
        return f"{of} silent for {rule.threshold:g} intervals".strip()
    if rule.comparison in {Comparison.STUCK, Comparison.CHANGED}:
        return f"{of} {rule.comparison} {_span(rule.over)}"
    if rule.times is not None:
        return f"{of} above {rule.times:g} times its {rule.rollup} of {_span(rule.over)}"
    if rule.rollup is not None:
        of = f"{rule.rollup} of {of} over {_span(rule.over)}"
    said = f"{of} {_limit(rule.comparison, rule.threshold, rule.members)}"
    return said if rule.comparison not in {Comparison.RATE_ABOVE, Comparison.RATE_BELOW} else f"{said} an hour"


def _group(terms: tuple[RuleTerm, ...], least: int) -> str:
    word = "all" if least == len(terms) else "any" if least == 1 else f"{least}"
    return f"{word} of ({'; '.join(_term(each) for each in terms)})"


def _term(term: RuleTerm) -> str:
    if term.terms:
        return _group(term.terms, term.least)
    return f"{term.metric} {_limit(term.comparison, term.threshold, term.members)}"


def _limit(comparison: Comparison, threshold: object, members: frozenset[object]) -> str:
    if comparison in {Comparison.IN, Comparison.NOT_IN}:
        return f"{comparison.value.replace('_', ' ')} {', '.join(sorted(map(str, members)))}"
    limit = str(threshold).lower() if isinstance(threshold, (bool, str)) else f"{threshold:g}"
    return f"= {limit}" if comparison is Comparison.EQUALS else f"{comparison.value.replace('_', ' ')} {limit}"


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
