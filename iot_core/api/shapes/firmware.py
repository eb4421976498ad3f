"""Requests and answers about firmware: signers, images, campaigns."""

# No `from __future__ import annotations`: msgspec reads the annotations.

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from iot_core.api.shapes.base import Answer, Query, Request

_Model = Annotated[str, Meta(min_length=1, max_length=100, pattern="^[^\\x00]*$")]
_Version = Annotated[str, Meta(min_length=1, max_length=60, pattern="^[^\\x00]*$")]
_Selector = Annotated[str, Meta(min_length=1, max_length=1_000)]
_Share = Annotated[float, Meta(gt=0, le=1)]
_Signer = Annotated[str, Meta(min_length=1, max_length=100, pattern="^[^\\x00/]*$")]


class FirmwareSigner(Request, frozen=True, kw_only=True):
    """Who signs images: a name, and an Ed25519 public key of 32 bytes in base64."""

    name: _Signer
    public_key: bytes


class FirmwareSignerKnown(Answer, frozen=True, kw_only=True):
    """A signer; `public_key` in hexadecimal. What a revoked one signed begins no campaign any more."""

    name: str
    public_key: str
    added_by: str
    added_at: datetime
    revoked_at: datetime | None


class FirmwareSigners(Answer, frozen=True, kw_only=True):
    """Signers, the revoked ones too."""

    items: tuple[FirmwareSignerKnown, ...]


class FirmwareNew(Request, frozen=True, kw_only=True):
    """An image with its signature, both in base64; 5 MB at most. What is signed: docs/firmware.md."""

    model: _Model
    version: _Version
    image: Annotated[bytes, Meta(min_length=1)]
    signature: bytes


class FirmwareImage(Answer, frozen=True, kw_only=True):
    """A signed image for a model; `sha256` in hexadecimal, `signature` in base64, `size` in bytes."""

    id: int
    model: str
    version: str
    sha256: str
    signature: bytes
    size: int
    signer: str
    added_by: str
    added_at: datetime


class FirmwareImages(Answer, frozen=True, kw_only=True):
    """Images, the newest first."""

    items: tuple[FirmwareImage, ...]


class CampaignQuery(Query, frozen=True, kw_only=True):
    """Whom a campaign would reach."""

    where: _Selector
    canary: _Share = 0.05


class CampaignPlan(Answer, frozen=True, kw_only=True):
    """How many devices a campaign would reach, the sizes of its rings, and its first devices."""

    total: int
    rings: tuple[int, ...]
    devices: tuple[str, ...]


class CampaignNew(Request, frozen=True, kw_only=True):
    """An image to the native devices of a selector that have its model and another version.

    `canary` is the share of the first ring; each ring is four times as large as the one before. It pauses when more
    than `fail_share` of the devices of the rings begun so far failed. `base_url` is where devices reach this core.
    """

    image: int
    where: _Selector
    canary: _Share = 0.05
    fail_share: Annotated[float, Meta(ge=0, le=1)] = 0.1
    base_url: Annotated[str, Meta(max_length=200, pattern="^https?://[^\\s]+$")] | None = None


class Campaign(Answer, frozen=True, kw_only=True):
    """A campaign; `states` counts its devices (waiting, running, succeeded, failed), `ring` counts from 0."""

    id: int
    image_id: int
    model: str
    version: str
    selector: str
    base_url: str
    state: Literal["running", "paused", "done", "stopped"]
    reason: str
    fail_share: float
    rolls_back: int | None = None
    by: str
    created_at: datetime
    states: dict[str, int]
    ring: int
    rings: int


class Campaigns(Answer, frozen=True, kw_only=True):
    """Campaigns, the newest first."""

    items: tuple[Campaign, ...]


class FirmwareUpdate(Answer, frozen=True, kw_only=True):
    """One device of a campaign; `before` is the version it had, `detail` its own word, `said` why it failed."""

    device: str
    ring: int
    state: str
    before: str | None = None
    command_id: int | None = None
    command_state: str | None = None
    ended_at: datetime | None = None
    detail: str = ""
    said: str | None = None


class CampaignDetail(Campaign, frozen=True, kw_only=True):
    """A campaign with its devices."""

    devices: tuple[FirmwareUpdate, ...]


class CampaignRolledBack(Answer, frozen=True, kw_only=True):
    """The campaigns that bring devices back, and devices whose former image is not here."""

    campaigns: tuple[Campaign, ...]
    cannot: tuple[str, ...]
