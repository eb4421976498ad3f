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


class RuleAt(Answer, frozen=True, kw_only=True):
    """A rule as it holds at a device, and the changes that made it so, the widest first."""

    rule: str
    title: Title
    severity: Severity
    said: str
    source: str
    changes: tuple[RuleLaid, ...]


class RulesAt(Answer, frozen=True, kw_only=True):
    device: str
    items: tuple[RuleAt, ...]
