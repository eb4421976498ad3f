"""A typed client of our HTTP API; needs aiohttp and msgspec only.

async with Client("http://127.0.0.1:8080", token) as client:
    for device in (await client.devices(search="ha long")).items:
        ...
    async for happened in client.events():      # alarms and device states, for ever, across reconnections
        ...
"""

from __future__ import annotations

import asyncio
import io
import random
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from iot_core.api import shapes
from iot_core.api.late_certificates import late_certificates
from iot_core.api.pinned import OtherCertificate, fingerprint_bytes, pinned, spelled_fingerprint
from iot_core.api.sse import Message, Parser
from iot_core.errors import (
    CommandRejected,
    ConflictError,
    DeviceUnreachable,
    ForbiddenError,
    IotError,
    NotFoundError,
    RequestError,
    StoreUnavailable,
)
from iot_core.messages import language, text

with late_certificates():
    import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
    from datetime import date, datetime
    from types import TracebackType

    from iot_core.model import Reason

    Lost = Callable[[IotError | None], None]

__all__ = ["Client"]

_TIMEOUT: Final = aiohttp.ClientTimeout(total=60, sock_connect=10)
_STREAM_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=45)  # a heartbeat comes each 15 s
_FILE_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_LOST: Final = frozenset({"api.unreachable", "api.cut_off", "api.cut_off_plain", "api.no_answer", "store.unavailable"})
_LONGEST_PAUSE_S: Final = 15.0
_FIRST_PAUSE_S: Final = 0.5
_CUT_OFF: Final = (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError)
_CLASSES: Final[dict[int, type[RequestError | CommandRejected | DeviceUnreachable]]] = {
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    422: CommandRejected,
    504: DeviceUnreachable,
}

A = TypeVar("A")


class Unanswered(Protocol):
    """Idempotency keys of writes, kept until their answer came."""

    def key_of(self, asked: bytes) -> str:
        """Give the key to ask with."""

    def answered(self, asked: bytes) -> None:
        """Forget it."""


class Client:
    """One connection pool to one core. Every method raises RequestError (or a child of it) with the core's own words.

    A core without its database raises StoreUnavailable: the same request can succeed later. Leave a stream early
    inside `contextlib.aclosing`, so that its connection is closed at once.

    A request whose answer is lost on the way is asked `retries` times more; a write carries an idempotency key, so that
    it is done once. `retrying` is called before each of them. `fingerprint` (SHA-256 of the certificate) is what a core
    with a certificate of its own must show; without it, the certificate must be one that this system trusts.
    `unanswered` keeps the keys of writes for whoever asks the same again with another client.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        lang: str = "",
        fingerprint: str = "",
        retries: int = 2,
        retrying: Callable[[int, int], None] | None = None,
        unanswered: Unanswered | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise RequestError("api.bad_url", url=url)
        self.url = url.rstrip("/")
        self._headers = {"Accept": "application/json", "Accept-Language": lang or language()}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._pinned = pinned(fingerprint_bytes(fingerprint)) if fingerprint else True
        self._retries = retries
        self._retrying = retrying
        self._unanswered = unanswered
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._pinned)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=_TIMEOUT, connector=connector)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # ------------------------------------------------------------ areas
    async def areas(self, *, ended: bool = False) -> shapes.Areas:
        """List all areas, those that ended too when asked for."""
        return await self._get("/areas", shapes.Areas, shapes.AreasQuery(ended=ended))

    async def area(self, key: str) -> shapes.AreaDetail:
        """Show an area with its history."""
        return await self._get(f"/areas/{_part(key)}", shapes.AreaDetail)

    async def area_tree(self) -> shapes.AreaTree:
        """Give the areas as a tree."""
        return await self._get("/areas/tree", shapes.AreaTree)

    async def add_area(self, new: shapes.AreaNew) -> shapes.Area:
        """Add an area."""
        return await self._send("POST", "/areas", shapes.Area, new)

    async def rename_area(self, key: str, body: shapes.AreaRename) -> shapes.Changed:
        """Give an area another name."""
        return await self._send("POST", f"/areas/{_part(key)}/rename", shapes.Changed, body)

    async def move_area(self, key: str, body: shapes.AreaMove) -> shapes.Changed:
        """Hang an area under another one."""
        return await self._send("POST", f"/areas/{_part(key)}/move", shapes.Changed, body)

    async def merge_areas(self, body: shapes.AreaMerge) -> shapes.Changed:
        """Merge areas into another one."""
        return await self._send("POST", "/areas/merge", shapes.Changed, body)

    async def end_area(self, key: str, body: shapes.AreaEnd) -> shapes.Changed:
        """Give an empty area up."""
        return await self._send("POST", f"/areas/{_part(key)}/end", shapes.Changed, body)

    async def import_areas(self, body: shapes.AreaImport) -> shapes.Changed:
        """Add many areas and bring those that are there up to date, all or none."""
        return await self._send("POST", "/areas/import", shapes.Changed, body)

    # ------------------------------------------------------------ what was changed
    async def audit(self, asked: shapes.AuditQuery) -> shapes.Audit:
        """List what was changed, the newest first."""
        return await self._get("/audit", shapes.Audit, asked)

    async def undo(self, operation: int) -> shapes.Changed:
        """Take an operation back."""
        return await self._send("POST", f"/operations/{operation}/undo", shapes.Changed)

    # ------------------------------------------------------------ work at devices
    async def open_window(self, body: shapes.WindowNew) -> shapes.Changed:
        """Begin maintenance or a test; it ends by itself."""
        return await self._send("POST", "/maintenance", shapes.Changed, body)

    async def windows(self, *, device: str | None = None, since: datetime | None = None) -> shapes.Windows:
        """List windows that are open or to come, those over since a moment too."""
        return await self._get("/maintenance", shapes.Windows, shapes.WindowQuery(device=device, since=since))

    async def end_window(self, number: int) -> shapes.Window:
        """End a window before its time."""
        return await self._send("POST", f"/maintenance/{number}/end", shapes.Window)

    async def commissioning(self, key: str, asked: shapes.CommissioningQuery) -> shapes.Commissioning:
        """Look how a device does since a moment, against what its model can say."""
        return await self._get(f"/devices/{key}/commissioning", shapes.Commissioning, asked)

    async def keep_commissioning(self, key: str, body: shapes.CommissioningNew) -> shapes.Commissioning:
        """Keep the record of a commissioning."""
        return await self._send("POST", f"/devices/{key}/commissioning", shapes.Commissioning, body)

    async def commissionings(self, key: str) -> shapes.Commissionings:
        """Give the commissioning records of a device, the newest first."""
        return await self._get(f"/devices/{key}/commissionings", shapes.Commissionings)

    # ------------------------------------------------------------ devices
    async def devices(
        self,
        *,
        class_key: str | None = None,
        area: str | None = None,
        state: shapes.DeviceState | None = None,
        search: str | None = None,
        limit: int = 1_000,
        after: str | None = None,
    ) -> shapes.Devices:
        """Find devices, in key order; go on with `after` the last key."""
        asked = shapes.DeviceQuery(class_key=class_key, area=area, state=state, search=search, limit=limit, after=after)
        return await self._get("/devices", shapes.Devices, asked)

    async def device(self, key: str) -> shapes.DeviceDetail:
        """Show one device."""
        return await self._get(f"/devices/{_part(key)}", shapes.DeviceDetail)

    async def add_device(self, new: shapes.DeviceNew) -> shapes.DeviceAdded:
        """Add a device; its secret is in the answer, once."""
        return await self._send("POST", "/devices", shapes.DeviceAdded, new)

    async def add_devices(self, new: Sequence[shapes.DeviceNew]) -> shapes.DevicesAdded:
        """Add many devices, all or none (5,000 at most)."""
        return await self._send("POST", "/devices/batch", shapes.DevicesAdded, shapes.DeviceBatch(devices=tuple(new)))

    async def command(
        self, key: str, name: str, params: Mapping[str, bool | int | float | str], *, wait_s: float = 5.0
    ) -> shapes.CommandSent:
        """Send a command to a device, and wait a little for what a native one answers."""
        body = shapes.CommandNew(name=name, params=dict(params), wait_s=wait_s)
        return await self._send("POST", f"/devices/{_part(key)}/commands", shapes.CommandSent, body)

    async def order_command(self, new: shapes.OrderNew) -> shapes.CommandOrder:
        """Keep a command for many devices; each gets it as soon as it can be told."""
        return await self._send("POST", "/commands", shapes.CommandOrder, new)

    async def commands(self, asked: shapes.CommandsQuery) -> shapes.Commands:
        """List commands, the newest first."""
        return await self._get("/commands", shapes.Commands, asked)

    async def show_command(self, number: int) -> shapes.Command:
        """Show one command."""
        return await self._get(f"/commands/{number}", shapes.Command)

    async def cancel_command(self, number: int) -> shapes.CommandsCancelled:
        """Cancel a command that has not left yet."""
        return await self._send("POST", f"/commands/{number}/cancel", shapes.CommandsCancelled)

    async def command_order(self, number: int) -> shapes.CommandOrder:
        """Show an order, and how many of its commands are in which state."""
        return await self._get(f"/command-orders/{number}", shapes.CommandOrder)

    async def confirm_order(self, number: int) -> shapes.CommandOrder:
        """Confirm an order as the second person."""
        return await self._send("POST", f"/command-orders/{number}/confirm", shapes.CommandOrder)

    async def cancel_order(self, number: int) -> shapes.CommandsCancelled:
        """Cancel those of an order's commands that have not left yet."""
        return await self._send("POST", f"/command-orders/{number}/cancel", shapes.CommandsCancelled)

    async def twin(self, key: str) -> shapes.Twin:
        """Show a device's configuration."""
        return await self._get(f"/devices/{_part(key)}/twin", shapes.Twin)

    async def change_twin(
        self, key: str, changes: Mapping[str, bool | int | float | str | None], *, version: int | None = None
    ) -> shapes.Twin:
        """Change what a device should be set to."""
        body = shapes.TwinChange(changes=dict(changes), version=version)
        return await self._send("POST", f"/devices/{_part(key)}/twin", shapes.Twin, body)

    async def check_twin(self, key: str) -> shapes.Twin:
        """Read a device's settings back now."""
        return await self._send("POST", f"/devices/{_part(key)}/twin/check", shapes.Twin)

    async def twins(self, *, all_: bool = False, limit: int = 200) -> shapes.Twins:
        """List configurations, those that differ unless all are asked for."""
        return await self._get("/twins", shapes.Twins, shapes.TwinQuery(all=all_, limit=limit))

    async def schedules(self) -> shapes.Schedules:
        """List all schedules."""
        return await self._get("/schedules", shapes.Schedules)

    async def schedule(self, key: str, *, days: int = 2) -> shapes.Schedule:
        """Show a schedule with what it will do."""
        return await self._get(f"/schedules/{_part(key)}", shapes.Schedule, shapes.SchedulePreview(days=days))

    async def add_schedule(self, key: str, where: str, points: Sequence[str]) -> shapes.Schedule:
        """Add a schedule."""
        body = shapes.ScheduleNew(key=key, where=where, points=tuple(points))
        return await self._send("POST", "/schedules", shapes.Schedule, body)

    async def override_schedule(self, key: str, point: str | None, for_s: float = 3_600) -> shapes.Schedule:
        """Let something else hold for a time; None ends what holds."""
        body = shapes.ScheduleOverride(point=point, for_s=for_s)
        return await self._send("POST", f"/schedules/{_part(key)}/override", shapes.Schedule, body)

    async def remove_schedule(self, key: str) -> shapes.Schedule:
        """Remove a schedule."""
        return await self._send("DELETE", f"/schedules/{_part(key)}", shapes.Schedule)

    async def firmware_signers(self) -> shapes.FirmwareSigners:
        """List signers of firmware."""
        return await self._get("/firmware/signers", shapes.FirmwareSigners)

    async def trust_signer(self, name: str, public_key: bytes) -> shapes.Nothing:
        """Trust a signer of firmware."""
        body = shapes.FirmwareSigner(name=name, public_key=public_key)
        return await self._send("POST", "/firmware/signers", shapes.Nothing, body)

    async def revoke_signer(self, name: str) -> shapes.Nothing:
        """Trust a signer of firmware no more."""
        return await self._send("DELETE", f"/firmware/signers/{_part(name)}", shapes.Nothing)

    async def add_firmware(self, model: str, version: str, image: bytes, signature: bytes) -> shapes.FirmwareImage:
        """Keep a signed image."""
        body = shapes.FirmwareNew(model=model, version=version, image=image, signature=signature)
        return await self._send("POST", "/firmware", shapes.FirmwareImage, body)

    async def firmware(self) -> shapes.FirmwareImages:
        """List images."""
        return await self._get("/firmware", shapes.FirmwareImages)

    async def plan_campaign(self, image: int, where: str, *, canary: float = 0.05) -> shapes.CampaignPlan:
        """Say whom a campaign would reach."""
        query = shapes.CampaignQuery(where=where, canary=canary)
        return await self._get(f"/firmware/{image}/plan", shapes.CampaignPlan, query)

    async def begin_campaign(self, new: shapes.CampaignNew) -> shapes.Campaign:
        """Begin a campaign."""
        return await self._send("POST", "/campaigns", shapes.Campaign, new)

    async def campaigns(self) -> shapes.Campaigns:
        """List campaigns."""
        return await self._get("/campaigns", shapes.Campaigns)

    async def campaign(self, number: int) -> shapes.CampaignDetail:
        """Show a campaign with its devices."""
        return await self._get(f"/campaigns/{number}", shapes.CampaignDetail)

    async def turn_campaign(self, number: int, to: Literal["pause", "resume", "stop"]) -> shapes.Campaign:
        """Pause a campaign, let it go on, or end it."""
        return await self._send("POST", f"/campaigns/{number}/{to}", shapes.Campaign)

    async def roll_back(self, number: int) -> shapes.CampaignRolledBack:
        """Bring devices back to the version they had."""
        return await self._send("POST", f"/campaigns/{number}/rollback", shapes.CampaignRolledBack)

    async def set_login(self, key: str, username: str, password: str) -> shapes.CredentialKept:
        """Keep the login that the core shows to a device, such as a camera."""
        body = shapes.LoginNew(username=username, password=password)
        return await self._send("POST", f"/devices/{_part(key)}/login", shapes.CredentialKept, body)

    async def channels(self, key: str) -> shapes.Channels:
        """List the channels of a device's unit."""
        return await self._get(f"/devices/{_part(key)}/channels", shapes.Channels)

    async def feed_channel(self, key: str, channel: str, device: str | None) -> shapes.Channels:
        """Say which device a channel of a device's unit feeds; None: none any more."""
        body = shapes.ChannelFeeds(channel=channel, device=device)
        return await self._send("POST", f"/devices/{_part(key)}/channels", shapes.Channels, body)

    async def forget_login(self, key: str) -> shapes.CredentialKept:
        """Forget a device's login."""
        return await self._send("DELETE", f"/devices/{_part(key)}/login", shapes.CredentialKept)

    async def new_oscore(self, key: str, *, at_once: bool = False) -> shapes.OscoreContext:
        """Make an OSCORE context for a device; its key is in the answer, once. The one before opens until it is used.

        It dies now with `at_once`, and for a device that the core asks.
        """
        new = shapes.OscoreNew(at_once=at_once)
        return await self._send("POST", f"/devices/{_part(key)}/oscore", shapes.OscoreContext, new)

    async def forget_oscore(self, key: str) -> shapes.CredentialKept:
        """Forget a device's OSCORE context."""
        return await self._send("DELETE", f"/devices/{_part(key)}/oscore", shapes.CredentialKept)

    async def remove_device(self, key: str) -> shapes.Device:
        """Retire a device and dismount its unit; its history stays."""
        return await self._send("DELETE", f"/devices/{_part(key)}", shapes.Device)

    async def restore_device(self, key: str, *, fresh_secret: bool = False) -> shapes.DeviceAdded:
        """Take a retired device back at the address it had, with the secret it had unless a fresh one is asked for."""
        body = shapes.DeviceRestore(fresh_secret=fresh_secret)
        return await self._send("POST", f"/devices/{_part(key)}/restore", shapes.DeviceAdded, body)

    async def replace_device(self, key: str, body: shapes.DeviceReplace) -> shapes.DeviceAdded:
        """Mount another unit at a device; its secret is in the answer, once."""
        return await self._send("POST", f"/devices/{_part(key)}/replace", shapes.DeviceAdded, body)

    async def edit_devices(self, body: shapes.DeviceEdit) -> shapes.Changed:
        """Change devices as one operation."""
        return await self._send("POST", "/devices/edit", shapes.Changed, body)

    async def device_rows(self, where: str | None = None, *, after: str | None = None) -> shapes.DeviceRows:
        """Give devices with all that a list holds, in key order; go on with `after` the last key."""
        return await self._get("/devices/rows", shapes.DeviceRows, shapes.DeviceRowsQuery(where=where, after=after))

    async def import_devices(self, body: shapes.DeviceImport, *, key: str | None = None) -> shapes.DevicesImported:
        """Add or bring up to date the devices of a list (5,000 rows at most).

        With the idempotency `key` of a request that was cut off its answer is given once more, for ten minutes.
        """
        return await self._send("POST", "/devices/import", shapes.DevicesImported, body, key=key)

    # ------------------------------------------------------------ telemetry
    async def latest(self, key: str) -> shapes.LatestValues:
        """Give the newest value of each metric."""
        return await self._get(f"/devices/{_part(key)}/latest", shapes.LatestValues)

    async def read_now(self, key: str) -> shapes.AskedNow:
        """Ask a device now. Raises DeviceUnreachable when it says nothing, CommandRejected where it cannot be asked."""
        return await self._send("POST", f"/devices/{_part(key)}/read", shapes.AskedNow)

    async def survey(self, asked: shapes.SurveyQuery) -> AsyncGenerator[shapes.SurveyStep, None]:
        """Let the core look for devices. Raises CommandRejected where it cannot."""
        path = "/survey?" + urlencode(_parameters(asked))
        async with aclosing(self._stream(path, reconnect=False)) as messages:
            async for message in messages:
                if message.event == "end":
                    return
                if message.event == "problem":
                    problem = msgspec.json.decode(message.data)
                    raise CommandRejected(problem["code"], **problem["facts"])
                if message.event == "step":
                    yield msgspec.json.decode(message.data, type=shapes.SurveyStep)
        raise RequestError("api.cut_off", url=self.url)

    async def telemetry(
        self,
        key: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        metrics: Iterable[str] = (),
        level: shapes.Level | None = None,
        limit: int = 10_000,
    ) -> shapes.Telemetry:
        """Give a span, oldest first: raw rows, hours or days; without `level` the one that suits the span."""
        asked = shapes.TelemetryQuery(start=start, end=end, metrics=",".join(metrics) or None, level=level, limit=limit)
        return await self._get(f"/devices/{_part(key)}/telemetry", shapes.Telemetry, asked)

    async def chart(
        self,
        key: str,
        metric: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        points: int = 500,
    ) -> shapes.Chart:
        """Give one metric of a span in at most `points` points that look like all of them."""
        asked = shapes.ChartQuery(metric=metric, start=start, end=end, points=points)
        return await self._get(f"/devices/{_part(key)}/chart", shapes.Chart, asked)

    async def newest(
        self, *, class_key: str | None = None, area: str | None = None, devices: Iterable[str] = ()
    ) -> shapes.LatestList:
        """Give the newest values of many devices."""
        asked = shapes.ScopeQuery(class_key=class_key, area=area, devices=",".join(devices) or None)
        return await self._get("/telemetry/latest", shapes.LatestList, asked)

    async def aqi(self, key: str, asked: shapes.AqiQuery) -> shapes.Aqis:
        """Give VN_AQI of a station by the hour or the civil day."""
        return await self._get(f"/devices/{_part(key)}/aqi", shapes.Aqis, asked)

    async def stats(self, asked: shapes.StatsQuery) -> shapes.Stats:
        """Aggregate a span over devices of one class."""
        return await self._get("/telemetry/stats", shapes.Stats, asked)

    async def export(
        self, asked: shapes.ExportQuery, *, left_out: dict[str, int] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Give every stored row as a line of JSON (ExportRow) without its end; a lost connection goes on behind it.

        Into `left_out` go the classes that are no longer among the profiles, with how many devices were left out.
        """
        last = b""
        while True:
            try:
                async with aclosing(self._lines("/telemetry/export", asked, left_out)) as lines:
                    async for line in lines:
                        yield line
                        last = line
            except (RequestError, StoreUnavailable) as error:
                if not last or error.code not in _LOST:
                    raise
                row = _decode(last, shapes.ExportRow, self.url)
                asked = msgspec.structs.replace(asked, after=f"{row.device} {row.time.isoformat()}")
                last = b""  # a second failure without a row in between is told
            else:
                return

    async def load(self, rows: Sequence[Mapping[str, Any]], *, replace: bool = False) -> shapes.TelemetryLoaded:
        """Merge rows of a file; give what was not taken, by index."""
        body = shapes.TelemetryLoad(rows=tuple(dict(row) for row in rows), replace=replace)
        return await self._send("POST", "/telemetry/import", shapes.TelemetryLoaded, body)

    async def completeness(self, asked: shapes.CompletenessQuery) -> shapes.Completeness:
        """Compare what devices should have said with what is stored of them."""
        return await self._get("/telemetry/completeness", shapes.Completeness, asked)

    async def watch(
        self, *keys: str, connected: Callable[[], None] | None = None, lost: Lost | None = None
    ) -> AsyncGenerator[shapes.Reading, None]:
        """Follow the readings of devices, the newest ones first of all; `connected` is called once it stands.

        `lost` is told when the connection is lost, and why, and with None when it stands again.

        Each connection begins with the newest rows; what was shown before it was lost is not shown again.
        """
        path = "/telemetry/watch?device=" + quote(",".join(keys))
        newest: dict[str, shapes.Reading] = {}
        async with aclosing(self._stream(path, connected=connected, lost=lost)) as messages:
            async for message in messages:
                if message.event == "reading":
                    reading = _decode(message.data.encode(), shapes.Reading, self.url)
                    before = newest.get(reading.device)
                    if reading == before:
                        continue
                    if before is None or reading.time >= before.time:
                        newest[reading.device] = reading
                    yield reading

    # ------------------------------------------------------------ alarms
    async def alarms(
        self,
        *,
        open_only: bool = True,
        device: str | None = None,
        limit: int = 200,
        quiet: bool = False,
        incident: int | None = None,
    ) -> shapes.Alarms:
        """List open alarms, the most urgent first, or all, the newest first."""
        return await self._get(
            "/alarms",
            shapes.Alarms,
            shapes.AlarmQuery(open=open_only, device=device, limit=limit, quiet=quiet, incident=incident),
        )

    async def alarm(self, alarm_id: int) -> shapes.AlarmDetail:
        """Show an alarm with its history and its messages."""
        return await self._get(f"/alarms/{alarm_id}", shapes.AlarmDetail)

    async def alarm_trace(self, alarm_id: int) -> shapes.AlarmTrace:
        """Tell an alarm's whole way, from the reading to the receipts."""
        return await self._get(f"/alarms/{alarm_id}/trace", shapes.AlarmTrace)

    async def acknowledge(self, alarm_id: int, *, version: int | None = None) -> shapes.Acknowledged:
        """Acknowledge an alarm. ConflictError when it is no longer at `version`."""
        body = shapes.Acknowledge(version=version)
        return await self._send("POST", f"/alarms/{alarm_id}/acknowledge", shapes.Acknowledged, body)

    async def alarm_do(self, alarm_id: int, deed: shapes.AlarmDeed) -> shapes.AlarmDone:
        """Assign, comment, shelve, close, reopen, undo. ConflictError when it is no longer at `deed.version`."""
        return await self._send("POST", f"/alarms/{alarm_id}/do", shapes.AlarmDone, deed)

    async def rule_changes(self) -> shapes.RuleLaidList:
        """List what people changed of the rules."""
        return await self._get("/rules", shapes.RuleLaidList)

    async def change_rule(self, rule: str, change: shapes.RuleChange) -> shapes.RuleChanged:
        """Lay a change over a rule, end one, or only see what it would be."""
        return await self._send("POST", f"/rules/{_part(rule)}", shapes.RuleChanged, change)

    async def try_rule(self, rule: str, asked: shapes.RuleTry) -> shapes.RuleTried:
        """Say what a rule would have raised over what is stored, at some of its devices."""
        return await self._send("POST", f"/rules/{_part(rule)}/try", shapes.RuleTried, asked)

    async def rules_at(self, device: str) -> shapes.RulesAt:
        """Give a device's rules as they hold."""
        return await self._get(f"/devices/{_part(device)}/rules", shapes.RulesAt)

    async def alarm_kpi(self, since: datetime | None = None) -> shapes.AlarmKpi:
        """Give the figures by which an alarm system is judged."""
        return await self._get("/alarms/kpi", shapes.AlarmKpi, shapes.KpiQuery(since=since))

    async def hand_over(self, asked: shapes.HandoverNew) -> shapes.Handover:
        """Hand a shift over; the report is kept."""
        return await self._send("POST", "/alarms/handover", shapes.Handover, asked)

    # ------------------------------------------------------------ files for others
    async def reports(self, asked: shapes.ReportQuery) -> shapes.ReportFiles:
        """List the files for the environmental authority with what became of them, the newest first."""
        return await self._get("/reports", shapes.ReportFiles, asked)

    async def report_again(self, device: str, since: datetime, until: datetime) -> shapes.ReportsAgain:
        """Have the files of a span made anew from what is stored now, and sent again."""
        body = shapes.ReportAgain(device=device, since=since, until=until)
        return await self._send("POST", "/reports/again", shapes.ReportsAgain, body)

    async def open_data(self, asked: shapes.OpenDataQuery) -> bytes:
        """Give a class's hourly means of a day by station, as a file; of households only sums of groups."""
        return await self._bytes("/open-data", asked)

    async def events(
        self,
        *,
        after: str = "",
        reconnect: bool = True,
        connected: Callable[[], None] | None = None,
        lost: Lost | None = None,
    ) -> AsyncGenerator[shapes.AlarmHappened | shapes.MapDevice, None]:
        """Follow alarm events and device states; after a lost connection, missed alarm events come first.

        `connected` and `lost` are called as in `watch`.
        """
        stream = self._stream("/events", after=after, reconnect=reconnect, connected=connected, lost=lost)
        async with aclosing(stream) as messages:
            async for message in messages:
                if message.event == "alarm":
                    yield _decode(message.data.encode(), shapes.AlarmHappened, self.url)
                elif message.event == "device":
                    yield _decode(message.data.encode(), shapes.MapDevice, self.url)

    # ------------------------------------------------------------ inbox, held
    async def inbox(self) -> shapes.Inbox:
        """List senders that nobody registered."""
        return await self._get("/inbox", shapes.Inbox)

    async def add_to_inbox(self, found: shapes.InboxAdd) -> shapes.InboxAdded:
        """Let those wait who were found elsewhere."""
        return await self._send("POST", "/inbox", shapes.InboxAdded, found)

    async def accept(self, asked: shapes.InboxAccept) -> shapes.DeviceAdded:
        """Register one that waits in the inbox."""
        return await self._send("POST", "/inbox/accept", shapes.DeviceAdded, asked)

    async def accept_all(self, asked: shapes.InboxAcceptAll) -> shapes.InboxAccepted:
        """Register all that wait in the inbox."""
        return await self._send("POST", "/inbox/accept-all", shapes.InboxAccepted, asked)

    async def reject(self, *, claims: Sequence[int] = (), addresses: Sequence[str] = ()) -> shapes.InboxRejected:
        """Refuse claims for good, forget what senders said."""
        body = shapes.InboxReject(claims=tuple(claims), addresses=tuple(addresses))
        return await self._send("POST", "/inbox/reject", shapes.InboxRejected, body)

    async def rotate_secret(self, key: str, *, at_once: bool = False) -> shapes.SecretRotated:
        """Make a device's new secret; it is in the answer, once."""
        body = shapes.SecretRotate(at_once=at_once)
        return await self._send("POST", f"/devices/{_part(key)}/secret", shapes.SecretRotated, body)

    async def rotate_secrets(self, asked: shapes.SecretsRotate) -> shapes.CommandOrder:
        """Have new secrets brought to devices; the order that does it tells how far it is."""
        return await self._send("POST", "/secrets/rotate", shapes.CommandOrder, asked)

    async def confirm_secret(self, key: str) -> shapes.SecretRotated:
        """Say that a device has its new secret."""
        return await self._send("POST", f"/devices/{_part(key)}/secret/confirm", shapes.SecretRotated)

    async def revoke_secret(self, key: str) -> shapes.SecretRotated:
        """Let nobody in as this device."""
        return await self._send("DELETE", f"/devices/{_part(key)}/secret", shapes.SecretRotated)

    async def set_bridge(self, key: str, topics: Sequence[str]) -> shapes.Bridge:
        """Say below which topics a device's login may speak for others."""
        body = shapes.BridgeSet(topics=tuple(topics))
        return await self._send("POST", f"/devices/{_part(key)}/bridge", shapes.Bridge, body)

    # ------------------------------------------------------------ certificates
    async def init_ca(self) -> shapes.AuthorityShown:
        """Make the certificate authority if there is none; give its certificate."""
        return await self._send("POST", "/ca", shapes.AuthorityShown)

    async def issue_certificate(
        self, key: str, *, days: int = 3650, csr: str | None = None
    ) -> shapes.CertificateIssued:
        """Issue a client certificate for a device."""
        body = shapes.CertificateNew(days=days, csr=csr)
        return await self._send("POST", f"/devices/{_part(key)}/certificate", shapes.CertificateIssued, body)

    async def certificates(self) -> shapes.Certificates:
        """List issued certificates, the newest first."""
        return await self._get("/certificates", shapes.Certificates)

    async def revoke_certificate(self, serial: str) -> None:
        """Revoke a certificate."""
        await self._send("DELETE", f"/certificates/{_part(serial)}", shapes.Nothing)

    # ------------------------------------------------------------ batch keys
    async def batches(self) -> shapes.Batches:
        """List batch keys, the newest first."""
        return await self._get("/batches", shapes.Batches)

    async def batch(self, key: str) -> shapes.Batch:
        """Show a batch key. Raises NotFoundError."""
        for each in (await self.batches()).items:
            if each.key == key:
                return each
        raise NotFoundError("batch.none", key=key)

    async def new_batch(self, new: shapes.BatchNew) -> shapes.BatchCreated:
        """Make a batch key; its secret is in the answer, once."""
        return await self._send("POST", "/batches", shapes.BatchCreated, new)

    async def revoke_batch(self, key: str) -> shapes.Batch:
        """End a batch key."""
        return await self._send("DELETE", f"/batches/{_part(key)}", shapes.Batch)

    async def held(
        self,
        *,
        device: str | None = None,
        reason: Reason | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> shapes.HeldList:
        """List held uplinks, the newest first; go on with `before` the last id."""
        asked = shapes.HeldQuery(device=device, reason=reason, start=start, end=end, before=before, limit=limit)
        return await self._get("/held", shapes.HeldList, asked)

    async def held_one(self, number: int) -> shapes.HeldDetail:
        """Show one held row whole."""
        return await self._get(f"/held/{number}", shapes.HeldDetail)

    async def preview_replay(self, chosen: shapes.HeldReplay) -> shapes.HeldReplayed:
        """Count what a replay would take, by reason."""
        body = msgspec.structs.replace(chosen, preview=True)
        return await self._send("POST", "/held/replay", shapes.HeldReplayed, body)

    async def replay_held(self, chosen: shapes.HeldReplay) -> AsyncGenerator[shapes.HeldReplayed, None]:
        """Run held uplinks through the path again, some at a time; each answer says what became of them."""
        while True:
            step = await self._send("POST", "/held/replay", shapes.HeldReplayed, chosen)
            yield step
            if step.after is None:
                return
            chosen = msgspec.structs.replace(chosen, after=step.after, until=step.until)

    # ------------------------------------------------------------ push
    async def push_targets(self) -> shapes.PushTargets:
        """List where alarms go."""
        return await self._get("/push", shapes.PushTargets)

    async def add_push(self, key: str, url: str = "", **facts: Any) -> shapes.PushAdded:
        """Add a target (`facts` are fields of PushNew); a webhook's secret is in the answer, once."""
        said = {name: value for name, value in facts.items() if value is not None}
        return await self._send("POST", "/push", shapes.PushAdded, shapes.PushNew(key=key, url=url, **said))

    async def rotate_push(self, key: str, *, secret: str | None = None, keep_h: float = 24) -> shapes.PushRotated:
        """Give a webhook a new secret; it is in the answer, once."""
        new = shapes.PushRotate(secret=secret, keep_h=keep_h)
        return await self._send("POST", f"/push/{_part(key)}/rotate", shapes.PushRotated, new)

    async def push_log(self, **asked: Any) -> shapes.PushMessages:
        """List messages with their receipts (`asked` are fields of PushLogQuery)."""
        return await self._get("/push/log", shapes.PushMessages, shapes.PushLogQuery(**asked))

    async def retry_push(self, target: str | None = None, message_id: str | None = None) -> shapes.PushRevived:
        """Bring dead letters back."""
        new = shapes.PushRetry(target=target, message_id=message_id)
        return await self._send("POST", "/push/retry", shapes.PushRevived, new)

    async def prove_push(self, day: date) -> shapes.PushProofs:
        """List what became of each alarm of a civil day."""
        return await self._get("/push/prove", shapes.PushProofs, shapes.PushProveQuery(day=day))

    async def escalations(self) -> shapes.Escalations:
        """List escalation chains."""
        return await self._get("/escalations", shapes.Escalations)

    async def add_escalation(self, new: shapes.EscalationNew) -> None:
        """Add an escalation chain."""
        await self._send("POST", "/escalations", shapes.Nothing, new)

    async def remove_escalation(self, key: str) -> None:
        """Remove an escalation chain."""
        await self._send("DELETE", f"/escalations/{_part(key)}", shapes.Nothing)

    async def holidays(self) -> shapes.Holidays:
        """List holidays."""
        return await self._get("/holidays", shapes.Holidays)

    async def add_holiday(self, day: date, name: str = "") -> None:
        """Note a holiday."""
        await self._send("POST", "/holidays", shapes.Nothing, shapes.HolidayNew(day=day, name=name))

    async def remove_holiday(self, day: date) -> None:
        """Forget a holiday."""
        await self._send("DELETE", f"/holidays/{day}", shapes.Nothing)

    async def centers(self) -> shapes.Centers:
        """List the centers that send us alarms."""
        return await self._get("/centers", shapes.Centers)

    async def add_center(
        self, key: str, name: str, *, area: str | None = None, secret: str | None = None
    ) -> shapes.CenterAdded:
        """Add a center; the secret that it signs with is in the answer, once."""
        new = shapes.CenterNew(key=key, name=name, area=area, secret=secret)
        return await self._send("POST", "/centers", shapes.CenterAdded, new)

    async def remove_center(self, key: str) -> None:
        """Stop taking a center's alarms."""
        await self._send("DELETE", f"/centers/{_part(key)}", shapes.Nothing)

    async def remove_push(self, key: str) -> None:
        """Stop sending alarms to a target."""
        await self._send("DELETE", f"/push/{_part(key)}", shapes.Nothing)

    async def test_push(self, key: str) -> shapes.PushTested:
        """Send a test message to a target."""
        return await self._send("POST", f"/push/{_part(key)}/test", shapes.PushTested)

    # ------------------------------------------------------------ classes, map, access
    async def classes(self) -> shapes.Classes:
        """List device classes."""
        return await self._get("/classes", shapes.Classes)

    async def profiles(self) -> shapes.ProfileList:
        """List device profiles."""
        return await self._get("/profiles", shapes.ProfileList)

    async def map(self) -> shapes.Map:
        """Give every device as the page draws it."""
        return await self._get("/map", shapes.Map)

    async def sign_in_code(self, *, name: str | None = None, role: shapes.Role | None = None) -> shapes.SignInCode:
        """Make a code that signs a browser in at the page, once."""
        return await self._send("POST", "/sign-in-codes", shapes.SignInCode, shapes.SignInCodeNew(name=name, role=role))

    async def tokens(self) -> shapes.Tokens:
        """List tokens."""
        return await self._get("/tokens", shapes.Tokens)

    async def add_token(
        self, name: str, role: shapes.Role, *, days: int | None = None, areas: Sequence[str] | None = None
    ) -> shapes.TokenAdded:
        """Make a token, in `areas` only if they are given; its secret is in the answer, once."""
        new = shapes.TokenNew(name=name, role=role, days=days, areas=None if areas is None else tuple(areas))
        return await self._send("POST", "/tokens", shapes.TokenAdded, new)

    async def revoke_token(self, token_id: int) -> None:
        """End a token with the sessions that came from it."""
        await self._send("DELETE", f"/tokens/{token_id}", shapes.Nothing)

    async def login(self, body: shapes.LoginNewToken) -> shapes.TokenAdded:
        """Get a token of one's own for a name and password."""
        return await self._send("POST", "/login", shapes.TokenAdded, body)

    async def log_out(self) -> None:
        """End the token that this client shows."""
        await self._send("DELETE", "/login", shapes.Nothing)

    async def users(self) -> shapes.Users:
        """List users."""
        return await self._get("/users", shapes.Users)

    async def add_user(self, new: shapes.UserNew) -> shapes.User:
        """Add a user."""
        return await self._send("POST", "/users", shapes.User, new)

    async def change_rights(self, name: str, body: shapes.UserRights) -> shapes.User:
        """Let a user do more, or less."""
        return await self._send("POST", f"/users/{_part(name)}/rights", shapes.User, body)

    async def set_password(self, name: str, password: str) -> None:
        """Give a user another password."""
        body = shapes.PasswordNew(password=password)
        await self._send("POST", f"/users/{_part(name)}/password", shapes.Nothing, body)

    async def set_own_password(self, before: str, password: str) -> None:
        """Change the asker's own password."""
        body = shapes.PasswordNew(password=password, before=before)
        await self._send("POST", "/me/password", shapes.Nothing, body)

    async def remove_user(self, name: str) -> None:
        """Remove a user with their sessions and tokens."""
        await self._send("DELETE", f"/users/{_part(name)}", shapes.Nothing)

    async def me(self) -> shapes.Me:
        """Say who asks and what they may do."""
        return await self._get("/me", shapes.Me)

    async def endpoints(self) -> shapes.Endpoints:
        """Say where devices reach the core."""
        return await self._get("/endpoints", shapes.Endpoints)

    async def ready(self) -> bool:
        """Say whether the core takes work."""
        try:
            async with self._open.get(f"{self.url}/readyz") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    # ------------------------------------------------------------ one request
    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use `async with Client(...)`")
        return self._session

    async def _get(self, path: str, answer: type[A], asked: shapes.Query | None = None) -> A:
        return await self._request("GET", path, answer, params=_parameters(asked))

    async def _send(
        self, method: str, path: str, answer: type[A], body: shapes.Request | None = None, *, key: str | None = None
    ) -> A:
        data = b"{}" if body is None else msgspec.json.encode(body)
        kept = self._unanswered if key is None else None
        asked = b"\n".join((method.encode(), path.encode(), data))
        key = key or (kept.key_of(asked) if kept else uuid.uuid4().hex)
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        said = await self._request(method, path, answer, data=data, headers=headers)
        if kept:
            kept.answered(asked)
        return said

    async def _request(self, method: str, path: str, answer: type[A], **options: Any) -> A:
        for attempt in range(self._retries + 1):
            try:
                return await self._once(method, path, answer, **options)
            except _Lost as lost:
                if attempt == self._retries:
                    raise lost.error from lost.__cause__
            if self._retrying is not None:
                self._retrying(attempt + 1, self._retries)
            await asyncio.sleep(random.uniform(0.5, 1.0) * 2**attempt * _FIRST_PAUSE_S)  # noqa: S311 - jitter
        raise AssertionError("unreachable")

    async def _once(self, method: str, path: str, answer: type[A], **options: Any) -> A:
        """Ask once. Raises _Lost where asking again may help: the core may have heard it, its answer did not come."""
        url = f"{self.url}{shapes.PREFIX}{path}"
        data = options.pop("data", None)
        if data is not None:
            options["data"] = io.BytesIO(data)  # aiohttp wants large bodies as files
        try:
            async with self._open.request(method, url, **options) as response:
                data = await response.read()
                if response.status >= 400:
                    raise _error(response, data, self.url)
        except TimeoutError as exc:
            raise _Lost(RequestError("api.no_answer", url=self.url, seconds=int(_TIMEOUT.total or 0))) from exc
        except (aiohttp.ClientError, OSError) as exc:
            error = _not_reached(exc, self.url)
            if isinstance(exc, aiohttp.ClientConnectorError):
                raise error from exc  # nobody was reached, so nobody will be in a second
            raise _Lost(error) from exc
        return _decode(data, answer, self.url)

    # ------------------------------------------------------------ streams
    async def _bytes(self, path: str, asked: shapes.Query) -> bytes:
        url = f"{self.url}{shapes.PREFIX}{path}"
        try:
            async with self._open.get(url, params=_parameters(asked), timeout=_FILE_TIMEOUT) as response:
                data = await response.read()
                if response.status >= 400:
                    raise _error(response, data, self.url)
                return data
        except TimeoutError as exc:
            raise RequestError("api.no_answer", url=self.url, seconds=int(_FILE_TIMEOUT.sock_read or 0)) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise _not_reached(exc, self.url) from exc

    async def _lines(
        self, path: str, asked: shapes.Query, left_out: dict[str, int] | None
    ) -> AsyncGenerator[bytes, None]:
        url = f"{self.url}{shapes.PREFIX}{path}"
        rest = b""
        try:
            async with self._open.get(url, params=_parameters(asked), timeout=_FILE_TIMEOUT) as response:
                if response.status >= 400:
                    raise _error(response, await response.read(), self.url)
                if left_out is not None:
                    for each in filter(None, response.headers.get(shapes.LEFT_OUT, "").split(", ")):
                        class_key, _, number = each.partition("=")
                        left_out.setdefault(class_key, int(number))
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield line
        except TimeoutError as exc:
            raise RequestError("api.no_answer", url=self.url, seconds=int(_FILE_TIMEOUT.sock_read or 0)) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise _not_reached(exc, self.url) from exc

    async def _stream(
        self,
        path: str,
        *,
        after: str = "",
        reconnect: bool = True,
        connected: Callable[[], None] | None = None,
        lost: Lost | None = None,
    ) -> AsyncGenerator[Message, None]:
        """Give the messages of a stream. The first connection must succeed; later ones are tried for ever."""
        attempt = 0
        stood = away = False
        while True:
            reason: IotError = RequestError("api.cut_off", url=self.url)
            try:
                async with aclosing(self._read_stream(path, after)) as messages:
                    async for message in messages:
                        if not stood and connected is not None:
                            connected()
                        if away and lost is not None:
                            lost(None)
                        stood, away, attempt = True, False, 0
                        if message is not None:
                            after = message.id or after
                            yield message
            except (StoreUnavailable, RequestError) as error:
                if not stood or not reconnect or isinstance(error, ForbiddenError | NotFoundError):
                    raise
                reason = error
            if not reconnect:
                return
            if not away and lost is not None:
                lost(reason)
            away = True
            await asyncio.sleep(random.uniform(0.2, min(_LONGEST_PAUSE_S, 1.5**attempt)))  # noqa: S311 - jitter
            attempt = min(attempt + 1, 10)

    async def _read_stream(self, path: str, after: str) -> AsyncGenerator[Message | None, None]:
        """Read one connection: first None, which says that it stands, then messages."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
        url = f"{self.url}{shapes.PREFIX}{path}"
        parser = Parser()
        try:
            async with self._open.get(url, headers=headers, timeout=_STREAM_TIMEOUT) as response:
                if response.status >= 400:
                    raise _error(response, await response.read(), self.url)
                yield None
                async for chunk in response.content.iter_any():
                    for message in parser.feed(chunk):
                        yield message
        except TimeoutError as exc:
            raise RequestError("api.no_answer", url=self.url, seconds=int(_STREAM_TIMEOUT.sock_read or 0)) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise _not_reached(exc, self.url) from exc


class _Lost(Exception):
    """An answer that did not come."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(error.code)
        self.error = error


def _part(text_: str) -> str:
    """Write a key as one part of a path, whatever it holds."""
    return quote(text_, safe="") or "%20"


def _parameters(asked: shapes.Query | None) -> dict[str, str]:
    """Write a query's parameters, leaving out what was not said."""
    if asked is None:
        return {}
    plain = msgspec.to_builtins(asked)
    return {key: _spelled(value) for key, value in plain.items() if value is not None}


def _spelled(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _decode(data: bytes, answer: type[A], url: str) -> A:
    try:
        return msgspec.json.decode(data, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise RequestError("api.not_ours", url=url, detail=str(exc)) from exc


def _error(response: aiohttp.ClientResponse, data: bytes, url: str) -> IotError:
    """Turn a problem into our error; what the catalogue here does not know is said in the core's own words."""
    try:
        problem = msgspec.json.decode(data, type=shapes.Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return RequestError("api.not_ours", url=url, detail=f"HTTP {response.status}")
    if response.status == 503:
        return StoreUnavailable(problem.detail)
    kind = _CLASSES.get(response.status, RequestError)
    facts = {key: value for key, value in problem.facts.items() if key not in {"code", "self"}}
    if text(problem.code) == problem.code:
        return kind("api.other", detail=problem.detail)
    return kind(problem.code, **facts)


def _not_reached(exc: aiohttp.ClientError | OSError, url: str) -> RequestError:
    """Say why nobody answered, or whose certificate it was."""
    if isinstance(exc, aiohttp.ServerDisconnectedError) and url.startswith("http://"):
        return RequestError("api.cut_off_plain", url=url, secure=url.replace("http", "https", 1))
    if isinstance(exc, _CUT_OFF):
        return RequestError("api.cut_off", url=url)
    if not isinstance(exc, aiohttp.ClientConnectorCertificateError):
        return RequestError("api.unreachable", url=url, detail=_why(exc))
    if isinstance(other := exc.certificate_error, OtherCertificate):
        return RequestError("login.other_certificate", url=url, shown=spelled_fingerprint(other.shown))
    return RequestError("login.untrusted", url=url)


def _why(error: BaseException) -> str:
    """Say why a connection failed, without its address, which the sentence names already."""
    inner = getattr(error, "os_error", None) or error
    return getattr(inner, "strerror", None) or str(inner) or type(error).__name__
