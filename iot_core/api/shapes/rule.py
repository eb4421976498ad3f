"""Requests and answers about changed alarm rules."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from iot_core.api.shapes.base import Answer, Request
from iot_core.model import Severity, Title


class RuleChange(Request, frozen=True, kw_only=True):
    """A change laid over a rule, or a new rule: the keys of a rule in class.yaml. `body` null ends the change."""

    body: dict[str, Any] | None = None
    where: Annotated[str, Meta(max_length=200)] = ""
    """`area=KEY`, `label=NAME`, `device=KEY`; empty: the whole class."""
    version: int | None = None
    """The version of the change that was seen, 0: there was none."""
    preview: bool = False
    """Only say what it would be."""


class RuleTry(Request, frozen=True, kw_only=True):
    """Try a rule over what is stored, part of the devices at a time. `body` null: the rule as it is."""

    body: dict[str, Any] | None = None
    where: Annotated[str, Meta(max_length=200)] = ""
    since: datetime
    until: datetime | None = None
    after: int | None = None
    """Where the part before this one ended (`next`)."""
    most: Annotated[int, Meta(ge=1, le=200)] = 25


class RuleRaised(Answer, frozen=True, kw_only=True):
    """An alarm that a rule would have raised; `source`: the device, or the area of a rule over devices."""

    source: str
    raised_at: datetime
    cleared_at: datetime | None
    severity: Severity
    value: float | None


class RuleTried(Answer, frozen=True, kw_only=True):
    """What a rule would have raised at `devices` devices; `now`: how many alarms the rule as it is would have.

    `next` is where the next part begins, null: that was the last one.
    """

    rule: str
    where: str
    said: str | None
    devices: int
    raised: tuple[RuleRaised, ...]
    now: int
    next: int | None


class RuleLaid(Answer, frozen=True, kw_only=True):
    """A change of a rule as it holds now."""

    rule: str
    where: str
    body: dict[str, Any]
    version: int
    by: str
    created_at: datetime


class RuleLaidList(Answer, frozen=True, kw_only=True):
    items: tuple[RuleLaid, ...]


class RuleChanged(Answer, frozen=True, kw_only=True):
    """What a change makes of a rule. `said` is its condition in the reader's language; null: switched off there."""

    rule: str
    where: str
    said: str | None
    severity: Severity | None
    devices: int
    applied: bool
    life_safety: bool
    """The class guards life: people are asked before such a rule is switched off."""


class RuleAt(Answer, frozen=True, kw_only=True):
    """A rule as it holds at a device, and the changes that made it so, the widest first. `said` null: switched off."""

    rule: str
    title: Title
    severity: Severity
    said: str | None
    source: str
    changes: tuple[RuleLaid, ...]


class RulesAt(Answer, frozen=True, kw_only=True):
    device: str
    items: tuple[RuleAt, ...]
