"""Requests and answers about areas."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from iot_core.api.shapes.base import Answer, Key, Latitude, Longitude, Name, Query, Request


class AreaNew(Request, frozen=True, kw_only=True):
    """A node to be added to the tree of areas. `outline` is a GeoJSON geometry, the position its centre (WGS 84)."""

    key: Key
    name: Name
    name_en: Name | None = None
    kind: Annotated[str, Meta(min_length=1, max_length=40)] = "zone"
    """province, commune, ward, zone, dma, street..."""
    code: Annotated[str, Meta(max_length=40)] | None = None
    parent: Key | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    outline: dict[str, Any] | None = None


class Area(Answer, frozen=True, kw_only=True):
    """A node of the tree of areas; `devices` counts those not retired that stand in it directly."""

    key: str
    name: str
    name_en: str | None
    kind: str
    code: str | None
    parent: str | None
    devices: int
    latitude: float | None = None
    longitude: float | None = None
    ended_at: datetime | None = None
    into: str | None = None
    """The area that it was merged into."""


class AreaVersion(Answer, frozen=True, kw_only=True):
    """What an area was from `since` (None: as far back as anyone knows) to `until` (None: still)."""

    since: datetime | None
    until: datetime | None
    name: str
    name_en: str | None
    kind: str
    code: str | None
    parent: str | None


class AreaDetail(Area, frozen=True, kw_only=True):
    """An area with its history, the newest first."""

    history: tuple[AreaVersion, ...]


class AreasQuery(Query, frozen=True, kw_only=True):
    """Whether to list areas that ended too."""

    ended: bool = False


class AreaRename(Request, frozen=True, kw_only=True):
    """Another name, from `at` on (now when left out). A dry run says what would change and writes nothing."""

    name: Name | None = None
    name_en: Name | None = None
    at: datetime | None = None
    dry_run: bool = False


class AreaMove(Request, frozen=True, kw_only=True):
    """Another parent (None: a root), from `at` on."""

    parent: Key | None
    at: datetime | None = None
    dry_run: bool = False


class AreaEnd(Request, frozen=True, kw_only=True):
    """An area is given up, from `at` on."""

    at: datetime | None = None
    dry_run: bool = False


class AreaMerge(Request, frozen=True, kw_only=True):
    """Areas that end and go into another one, from `at` on; `new` describes that one where it is not there yet."""

    areas: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=1_000)]
    into: Key | None = None
    new: AreaNew | None = None
    at: datetime | None = None
    dry_run: bool = False


class AreaImport(Request, frozen=True, kw_only=True):
    """Areas to be added or brought up to date, in any order."""

    areas: Annotated[tuple[AreaNew, ...], Meta(max_length=20_000)]
    at: datetime | None = None
    dry_run: bool = False


class AreaNode(Area, frozen=True, kw_only=True):
    """An area with those inside it; `devices_below` counts the whole subtree."""

    devices_below: int
    children: tuple["AreaNode", ...] = ()


class Areas(Answer, frozen=True, kw_only=True):
    items: tuple[Area, ...]


class AreaTree(Answer, frozen=True, kw_only=True):
    items: tuple[AreaNode, ...]
    """The roots."""
