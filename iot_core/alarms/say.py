"""A rule in one line, in the reader's language: `level above 80, hysteresis 5, for 5m`. Names stay as in the YAML."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from iot_core.messages import text
from iot_core.model import AlarmRule, Comparison, Rollup, RuleTerm

__all__ = ["say"]

_ZERO: Final = timedelta(0)
_LIMITS: Final[Mapping[Comparison, str]] = {
    Comparison.ABOVE: "say.above",
    Comparison.BELOW: "say.below",
    Comparison.EQUALS: "say.equals",
    Comparison.IN: "say.in",
    Comparison.NOT_IN: "say.not_in",
    Comparison.RATE_ABOVE: "say.rate_above",
    Comparison.RATE_BELOW: "say.rate_below",
}
_RATES: Final = frozenset({Comparison.RATE_ABOVE, Comparison.RATE_BELOW})
_ROLLUPS: Final[Mapping[Rollup, str]] = {
    Rollup.MEAN: "say.mean",
    Rollup.LOWEST: "say.lowest",
    Rollup.HIGHEST: "say.highest",
    Rollup.INCREASE: "say.increase",
}


def say(rule: AlarmRule, lang: str = "") -> str:
    """Write it down. `lang` empty: the language of this process."""
    parts = [_condition(rule, lang)]
    if rule.hysteresis:
        parts.append(text("say.hysteresis", lang, value=f"{rule.hysteresis:g}"))
    if rule.on_delay > _ZERO:
        parts.append(text("say.for", lang, span=_span(rule.on_delay)))
    if rule.off_delay > _ZERO:
        parts.append(text("say.gone_for", lang, span=_span(rule.off_delay)))
    for at, severity in rule.steps:
        word = text(f"alarm.severity_{severity}", lang).lower()
        parts.append(text("say.step", lang, severity=word, at=f"{at:g}"))
    if rule.hours:
        parts.append(text("say.hours", lang, hours=rule.hours))
    if rule.latched:
        parts.append(text("say.momentary" if rule.momentary else "say.latched", lang))
    return ", ".join(parts)


def _condition(rule: AlarmRule, lang: str) -> str:
    of, span = rule.derived or rule.metric or "", _span(rule.over)
    if rule.comparison is Comparison.TERMS:
        said = _group(rule.terms, rule.least, lang)
        return text("say.within", lang, of=said, span=span) if rule.over > _ZERO else said
    if rule.comparison is Comparison.DEVICES:
        where = text("say.area_of_kind" if rule.area_kind else "say.area", lang, kind=rule.area_kind)
        if rule.behind:
            where = text("say.behind", lang, gateway=rule.behind, where=where)
        rules = f" {text('say.or', lang)} ".join(rule.rules)
        code = "say.devices_fresh" if rule.fresh else "say.devices"
        return text(code, lang, least=rule.least, where=where, rules=rules, span=span)
    if rule.comparison is Comparison.SILENT:
        return text("say.silent", lang, of=of, intervals=f"{rule.threshold:g}").strip()
    if rule.comparison in {Comparison.STUCK, Comparison.CHANGED}:
        return text("say.stuck" if rule.comparison is Comparison.STUCK else "say.changed", lang, of=of, span=span)
    if rule.times is not None:
        rollup = text(_ROLLUPS[rule.rollup or Rollup.MEAN], lang)
        return text("say.times", lang, of=of, times=f"{rule.times:g}", rollup=rollup, span=span)
    if rule.rollup is not None:
        of = text("say.rollup", lang, rollup=text(_ROLLUPS[rule.rollup], lang), of=of, span=span)
    said = f"{of} {_limit(rule.comparison, rule.threshold, rule.members, lang)}"
    return text("say.over", lang, of=said, span=span) if rule.comparison in _RATES else said


def _group(terms: tuple[RuleTerm, ...], least: int, lang: str) -> str:
    code = "say.all" if least == len(terms) else "say.any" if least == 1 else "say.some"
    return text(code, lang, least=least, terms="; ".join(_term(each, lang) for each in terms))


def _term(term: RuleTerm, lang: str) -> str:
    if term.terms:
        return _group(term.terms, term.least, lang)
    return f"{term.metric} {_limit(term.comparison, term.threshold, term.members, lang)}"


def _limit(comparison: Comparison, threshold: object, members: frozenset[object], lang: str) -> str:
    limit = str(threshold).lower() if isinstance(threshold, (bool, str)) else f"{threshold:g}"
    return text(_LIMITS[comparison], lang, limit=limit, members=", ".join(_members(members)))


def _members(members: frozenset[object]) -> list[str]:
    numbers = sorted(each for each in members if isinstance(each, int | float) and not isinstance(each, bool))
    rest = sorted(str(each).lower() if isinstance(each, bool) else str(each) for each in members - set(numbers))
    return [*(f"{each:g}" for each in numbers), *rest]


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
