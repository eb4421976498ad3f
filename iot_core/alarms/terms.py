"""Groups of conditions over the metrics of one device: all, any, so many of them. Pure; unknown stays unknown."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from iot_core.model import AlarmRule, Comparison, RuleTerm, Value

__all__ = ["Asked", "compile_terms", "terms_of", "truth"]

Asked = Callable[[Mapping[str, Value]], bool | None]
"""Values by metric -> true, false, or None while a metric that matters has said nothing."""

_OPERATORS: Final[Mapping[Comparison, Callable[[Value, Value], bool]]] = {
    Comparison.ABOVE: operator.gt,
    Comparison.BELOW: operator.lt,
    Comparison.EQUALS: operator.eq,
}


def compile_terms(rule: AlarmRule) -> Asked:
    """Turn a rule's terms into one callable."""
    return partial(_least, tuple(_compiled(each) for each in rule.terms), rule.least)


def terms_of(terms: tuple[RuleTerm, ...]) -> Iterator[RuleTerm]:
    """Go through the questions about single metrics, those inside groups too."""
    for term in terms:
        if term.metric is not None:
            yield term
        yield from terms_of(term.terms)


def truth(term: RuleTerm, values: Mapping[str, Value]) -> bool | None:
    """Judge one term."""
    return _compiled(term)(values)


def _compiled(term: RuleTerm) -> Asked:
    if term.terms:
        return partial(_least, tuple(_compiled(each) for each in term.terms), term.least)
    assert term.metric is not None
    if term.comparison in {Comparison.IN, Comparison.NOT_IN}:
        return partial(_among, term.metric, term.members, term.comparison is Comparison.IN)
    return partial(_compared, term.metric, _OPERATORS[term.comparison], term.threshold)


def _compared(
    metric: str, compare: Callable[[Value, Value], bool], limit: Value, values: Mapping[str, Value]
) -> bool | None:
    value = values.get(metric)
    return None if value is None else compare(value, limit)


def _among(metric: str, members: frozenset[Value], wanted: bool, values: Mapping[str, Value]) -> bool | None:
    value = values.get(metric)
    return None if value is None else (value in members) is wanted


def _least(asked: tuple[Asked, ...], least: int, values: Mapping[str, Value]) -> bool | None:
    yes = unknown = 0
    for each in asked:
        said = each(values)
        if said is None:
            unknown += 1
        elif said:
            yes += 1
            if yes == least:
                return True
    return None if yes + unknown >= least else False
