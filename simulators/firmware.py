"""How a simulated native device takes new firmware: signature first, then part by part into flash, whatever is lost.

    command --signature good--> job in flash --parts--> digest good --> new version in flash --> `succeeded`
               '-- failed                ^------- lost part, power cut: goes on where the flash ends

Flash is a folder, so that ending the process at any moment is a power cut.
"""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from iot_core.model import firmware_text
from simulators.secret import Secrets

__all__ = ["Flash", "Radio", "Updating"]

Say = Callable[[dict[str, Any]], Awaitable[None]]
_PART: Final = 2048
"""Bytes asked for at once: what a small device can hold beside its program."""
_PART_S: Final = 0.01
_AGAIN_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 5.0
_ANSWER_S: Final = 10.0
_HTTP_PARTIAL: Final = 206
_FINAL: Final = frozenset({401, 403, 404, 416})
"""What asking again does not change."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a device was told to take."""

    id: int
    url: str
    model: str
    version: str
    size: int
    sha256: str
    signature: str


class _Kept(msgspec.Struct):
    version: str = ""
    job: Job | None = None
    last: dict[str, Any] | None = None


class Flash:
    """What survives a power cut: the version, the job under way with its bytes so far, the last answer."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "flash.json"
        self._image = folder / "image.part"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._kept = msgspec.json.decode(self._file.read_bytes(), type=_Kept)
        except (OSError, msgspec.DecodeError):
            self._kept = _Kept()

    @property
    def version(self) -> str:
        """The version that runs."""
        return self._kept.version

    @property
    def job(self) -> Job | None:
        """What is under way."""
        return self._kept.job

    @property
    def last(self) -> dict[str, Any] | None:
        """The answer to the job before."""
        return self._kept.last

    def have(self) -> int:
        """Count the bytes of the image that are there."""
        return self._image.stat().st_size if self._image.exists() else 0

    def begin(self, job: Job) -> None:
        """Take a job; an empty image."""
        self._image.unlink(missing_ok=True)
        self._keep(_Kept(version=self._kept.version, job=job, last=self._kept.last))

    def append(self, part: bytes) -> None:
        """Keep more of the image; the end of this process leaves it when this returns."""
        with self._image.open("ab") as file:
            file.write(part)

    def image(self) -> bytes:
        """Read what there is of the image."""
        return self._image.read_bytes() if self._image.exists() else b""

    def boot(self, version: str) -> None:
        """Switch to the image, all or nothing; the job stays until its answer is out."""
        self._keep(_Kept(version=version, job=self._kept.job, last=self._kept.last))

    def end(self, answer: dict[str, Any]) -> None:
        """Forget the job, remember its answer."""
        self._image.unlink(missing_ok=True)
        self._keep(_Kept(version=self._kept.version, last=answer))

    def _keep(self, kept: _Kept) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(kept))
        fresh.replace(self._file)
        self._kept = kept


@dataclass(slots=True)
class Radio:
    """A link that cuts this share of the requests somewhere in their answers."""

    loss: float = 0.0
    seed: int = 1
    asked: int = 0
    cut: int = 0
    _chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def bears(self, length: int) -> int | None:
        """Say after how many bytes the next answer is cut; None: it comes through."""
        self.asked += 1
        if self._chance.random() >= self.loss:
            return None
        self.cut += 1
        return self._chance.randrange(length)


@dataclass(slots=True)
class Updating:
    """Takes firmware for one device; `trusted` are the signers' public keys that were built into it."""

    key: str
    secrets: Secrets
    model: str
    flash: Flash
    trusted: Sequence[bytes] = ()
    radio: Radio = field(default_factory=Radio)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def told(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Take the command `firmware`; give the answer to it so far. Two at once are refused."""
        number, under_way = asked["id"], self.flash.job
        if self.flash.last is not None and self.flash.last["id"] == number:
            return self.flash.last
        if under_way is not None:
            if under_way.id == number:
                return {"id": number, "state": "delivered"}
            return {"id": number, "state": "failed", "detail": f"busy with {under_way.version}"}
        try:
            job = msgspec.convert({"id": number, **asked["params"]}, Job)
        except msgspec.ValidationError as exc:
            return {"id": number, "state": "failed", "detail": f"not understood: {exc}"}
        if why := self._refused(job):
            answer = {"id": number, "state": "failed", "detail": why}
            self.flash.end(answer)
            return answer
        self.flash.begin(job)
        self._news.set()
        return {"id": number, "state": "delivered"}

    async def run(self, say: Say) -> None:
        """Work on what is in flash, and on what is told, until cancelled; `say` returns when it is heard."""
        while True:
            self._news.clear()
            job = self.flash.job
            if job is None:
                await self._news.wait()
                continue
            why = "" if self.flash.version == job.version else await self._take(job)
            answer = {"id": job.id, "state": "failed", "detail": why} if why else {"id": job.id, "state": "succeeded"}
            await say(answer)
            self.flash.end(answer)

    def _refused(self, job: Job) -> str:
        """Say why a job is not begun: nothing is fetched for a signature that is not good."""
        if job.model != self.model:
            return f"for {job.model}, this is {self.model}"
        try:
            signature, digest = base64.b64decode(job.signature, validate=True), bytes.fromhex(job.sha256)
        except ValueError:
            return "signature not understood"
        for public in self.trusted:
            try:
                Ed25519PublicKey.from_public_bytes(public).verify(
                    signature, firmware_text(job.model, job.version, digest)
                )
            except InvalidSignature:
                continue
            return ""
        return "not signed by anybody known here"

    async def _take(self, job: Job) -> str:
        """Fetch, check and boot an image; give why not."""
        if why := await self._fetch(job):
            return why
        if sha256(self.flash.image()).hexdigest() != job.sha256:
            return "the image is not the one that was signed"
        self.flash.boot(job.version)
        return ""

    async def _fetch(self, job: Job) -> str:
        pause = _AGAIN_S
        who = base64.b64encode(f"{self.key}:{self.secrets.shown}".encode()).decode()
        headers = {"Authorization": f"Basic {who}"}
        async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=_ANSWER_S)) as http:
            while (have := self.flash.have()) < job.size:
                try:
                    if why := await self._part(http, job, have):
                        return why
                    pause = _AGAIN_S
                    await asyncio.sleep(_PART_S)
                except (aiohttp.ClientError, TimeoutError, OSError):
                    await asyncio.sleep(pause)
                    pause = min(_LONGEST_PAUSE_S, pause * 2)
        return ""

    async def _part(self, http: aiohttp.ClientSession, job: Job, have: int) -> str:
        """Fetch the next part, or as much of it as comes before the link is cut. Raises ClientError for a lost one."""
        length = min(_PART, job.size - have)
        headers = {"Range": f"bytes={have}-{have + length - 1}", "If-Range": f'"{job.sha256}"'}
        cut = self.radio.bears(length)
        async with http.get(job.url, headers=headers, allow_redirects=False) as response:
            if response.status in _FINAL:
                return f"HTTP {response.status}"
            if response.status != _HTTP_PARTIAL:
                raise aiohttp.ClientError(response.status)
            if cut is None:
                self.flash.append(await response.content.readexactly(length))
                return ""
            if cut:
                self.flash.append(await response.content.readexactly(cut))
            response.close()
            raise aiohttp.ClientError("cut")
