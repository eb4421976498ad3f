"""iot.toml and the environment as one typed Settings; the only reader of os.environ.

Every key can also be given as `IOT_<SECTION>_<KEY>` (`IOT_STORE_DSN`); the environment wins over the file.
"""

from __future__ import annotations

import os
import re
import tomllib
import zoneinfo
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec

from iot_core.errors import ConfigError
from iot_core.model import is_key, is_reserved

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
Hours = Annotated[float, msgspec.Meta(gt=0, le=24 * 365)]
NAME = "iot.toml"


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of iot.toml; a key that is not listed is an error."""


class Store(_Section, frozen=True, kw_only=True):
    """Where telemetry lives. Without `dsn` the core starts its own PostgreSQL in the state directory."""

    dsn: str = ""
    pool: Positive = 12
    statement_timeout_s: Positive = 30
    readers: Positive = 4
    """Connections for people and dashboards that read; apart from `pool`, so that they cannot starve ingest."""
    read_timeout_s: Positive = 20
    master_keys: str = ""
    """The file of the keys that encrypt kept secrets; if empty, `master.keys` in the state directory. Cores that share
    a database need the same one, and so does a restored backup."""


class Api(_Section, frozen=True, kw_only=True):
    """Where the HTTP API and the page listen.

    `tls`: `auto` is in clear on this machine only, and with a certificate of the core's own everywhere else; `on` has
    one always; `off` never, also where others can listen. A given `certificate` with its `key` (PEM files) wins.
    Each user, token of a program, and address may ask `burst` times at once and `rate` times a second for ever.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    tls: str = "auto"
    certificate: str = ""
    key: str = ""
    rate: Positive = 500
    burst: Positive = 5_000


class Mqtt(_Section, frozen=True, kw_only=True):
    """The broker: `auto` starts Mosquitto where it is installed, else the embedded one; `external` uses host, port.

    `version` is what the core itself speaks with it, 3.1.1 or 5; devices choose for themselves. `receipts` tells native
    devices which of their numbered messages are stored.
    """

    broker: str = "auto"
    host: str = "127.0.0.1"
    port: Port = 1883
    username: str = ""
    password: str = ""
    tls: bool = False
    version: str = "3.1.1"
    client_id: str = "iot-core-ingest"
    window: Positive = 6000
    sparkplug_host: Annotated[str, msgspec.Meta(pattern=r"^[^/+#]*$")] = ""
    """The host id for edge nodes that wait for a primary host: the core's STATE is published; empty: none is."""
    queued_messages: Positive = 1_000_000
    """What our own Mosquitto keeps while the database is away: 16 minutes of 1,000 messages a second, about 1.3 GB."""
    keepalive_s: Positive = 30
    receipts: bool = True
    tls_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    """Where our own Mosquitto takes TLS as well (8883 as a rule); 0: nowhere."""
    tls_cert: str = ""
    tls_key: str = ""
    """Files of another authority's server certificate; empty: one of our own (`iot ca`)."""
    client_certificates: bool = False
    """On the TLS port a certificate whose common name is the device's key, in place of a password."""
    client_ca: str = ""
    client_crl: str = ""
    """Files of another authority that signs devices' certificates; empty: our own."""


class Coap(_Section, frozen=True, kw_only=True):
    """Where the CoAP server listens."""

    host: str = "127.0.0.1"
    port: Port = 5683
    max_payload: Positive = 262_144


class Claims(_Section, frozen=True, kw_only=True):
    """Where new devices claim themselves over MQTT, listeners of their own, in clear and over TLS; port 0: not so.

    TLS shows what the broker's does: `mqtt.tls_cert`, else a certificate of our own authority (`iot ca`). Over HTTP and
    CoAP devices claim themselves where the API and the CoAP server listen.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    tls_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0


class Modbus(_Section, frozen=True, kw_only=True):
    """How Modbus devices are polled. `max_gap` is how many unneeded registers one request may bridge.

    `timeout_s` is how long a device may take to answer and `pause_s` how long a gateway is left alone between requests,
    where its profile does not say more (`modbus.timeout`, `modbus.pause`).
    `gateways` lists the networks (`10.0.3.0/24`) and host names that may be asked and written to; empty: all.
    `connections` bounds the gateways that are connected at once, `spool_rows` the polls kept while the store is away.
    """

    timeout_s: Seconds = 1.0
    pause_s: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.0
    max_gap: Annotated[int, msgspec.Meta(ge=0, le=125)] = 8
    connections: Positive = 200
    gateways: tuple[str, ...] = ()
    spool_rows: Positive = 200_000


class Ingest(_Section, frozen=True, kw_only=True):
    """Bounds of the ingest path. A batch is flushed at `batch` uplinks or after `batch_ms`, whichever comes first.

    A device may say `device_burst` messages at once (a long buffer), and `device_rate` a second for ever.
    """

    queue: Positive = 10_000
    batch: Positive = 5_000
    batch_ms: Positive = 50
    max_payload: Positive = 262_144
    device_rate: Positive = 100
    device_burst: Positive = 200_000
    held_rows: Positive = 1_000_000
    held_days: Positive = 30
    held_mb: Positive = 2_000


class ClassRetention(_Section, frozen=True, kw_only=True):
    """What one class does otherwise."""

    raw_days: Positive | None = None
    columnstore_after_days: Positive | None = None


class Retention(_Section, frozen=True, kw_only=True):
    """How long raw rows stay, and when TimescaleDB's community licence compresses them. Rollups stay for good.

    `[retention.classes.water_meter]` says it for one class.
    """

    raw_days: Positive = 400
    columnstore_after_days: Positive = 14
    classes: dict[str, ClassRetention] = msgspec.field(default_factory=dict)

    def raw(self, class_key: str) -> timedelta:
        """How long the raw rows of a class stay."""
        own = self.classes.get(class_key)
        return timedelta(days=own.raw_days if own and own.raw_days else self.raw_days)

    def columnstore_after(self, class_key: str) -> timedelta:
        """How old the rows of a class are when they are compressed."""
        own = self.classes.get(class_key)
        return timedelta(
            days=own.columnstore_after_days if own and own.columnstore_after_days else self.columnstore_after_days
        )


class Push(_Section, frozen=True, kw_only=True):
    """Alarms on their way out. Private addresses are refused as targets unless allowed."""

    allow_private: bool = False
    timeout_s: Seconds = 10.0
    give_up_after_h: Hours = 24.0
    keep_days: Positive = 400
    """How long it can be proven what was sent, and how long messages of other centers are known again."""
    watchdog_s: Annotated[float, msgspec.Meta(ge=5, le=3600)] = 60.0
    """How long push, ingest or the database may stand still before targets marked `watchdog` are told straight."""


class Reports(_Section, frozen=True, kw_only=True):
    """Files for the environmental authority (Circular 10/2021), every five minutes, into a folder or by SFTP.

    `stations` names each station's code by its device's key. `name` may have folders; of `station`, `time`
    (YYYYMMDDhhmmss), `day`, `year` and `month`. `host_key` is the server's line of known_hosts without the host.
    """

    folder: str = ""
    sftp: str = ""
    password: str = ""
    key_file: str = ""
    host_key: str = ""
    name: str = "{day}/{station}_{time}.txt"
    stations: dict[str, str] = msgspec.field(default_factory=dict)
    smallest_group: Annotated[int, msgspec.Meta(ge=3, le=10_000)] = 10
    """Households in a group of the open data, at least."""
    keep_days: Annotated[int, msgspec.Meta(ge=61, le=36_500)] = 400
    """How long the ledger of files is kept: at least as long as gaps are filled (60 days)."""


class Settings(_Section, frozen=True, kw_only=True):
    """All settings, checked before anything is started."""

    timezone: str = "Asia/Ho_Chi_Minh"
    language: str = ""
    profiles: str = ""
    """A folder of own classes and profiles, beside the shipped ones."""
    store: Store = Store()
    api: Api = Api()
    mqtt: Mqtt = Mqtt()
    coap: Coap = Coap()
    claims: Claims = Claims()
    modbus: Modbus = Modbus()
    ingest: Ingest = Ingest()
    retention: Retention = Retention()
    push: Push = Push()
    reports: Reports = Reports()


BROKERS = frozenset({"auto", "mosquitto", "embedded", "external"})
SECRET_KEYS = frozenset({"password", "dsn", "token", "secret"})


def load(path: Path | None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read settings from `path` (None: defaults) and the environment. Raises ConfigError naming file, line and key."""
    table: dict[str, Any] = {}
    text = ""
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(
                "config.unreadable", file=path, detail=getattr(exc, "strerror", None) or str(exc)
            ) from exc
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as exc:
            raise ConfigError("config.not_toml", file=path, detail=str(exc)) from exc
    overlay(table, os.environ if environ is None else environ)
    try:
        settings = msgspec.convert(table, Settings)
    except msgspec.ValidationError as exc:
        key = _key_of(str(exc))
        raise ConfigError(
            "config.invalid",
            file=path or "environment",
            line=_line_of(text, key),
            key=key or "?",
            expected=re.sub(r" - at `.*`$", "", str(exc)),
        ) from exc
    for key, fits, expected in _further_checks(settings):
        if not fits:
            where = path or "environment"
            raise ConfigError("config.invalid", file=where, line=_line_of(text, key), key=key, expected=expected)
    return settings


def _further_checks(settings: Settings) -> list[tuple[str, bool, str]]:
    """Check what a type cannot say: key, whether it fits, and what was expected."""
    dsn = settings.store.dsn
    return [
        ("timezone", settings.timezone in zoneinfo.available_timezones(), "an IANA name such as Asia/Ho_Chi_Minh"),
        ("api.tls", settings.api.tls in {"auto", "on", "off"}, "auto, on or off"),
        ("mqtt.broker", settings.mqtt.broker in BROKERS, "auto, mosquitto, embedded or external"),
        (
            "mqtt.client_id",
            not any(is_key(each) and not is_reserved(each) for each in _clients(settings.mqtt.client_id)),
            "iot-core-... or a name with a capital letter: a device with this key would take over the core's session",
        ),
        ("mqtt.version", settings.mqtt.version in {"3.1.1", "5"}, "3.1.1 or 5"),
        (
            "store.dsn",
            not dsn or dsn.startswith(("postgresql://", "postgres://")),
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
        ),
        (
            "reports.name",
            _is_name(settings.reports.name),
            "a relative path with {station}, {time}, {day}, {year}, {month}",
        ),
        ("mqtt.port", settings.api.port != settings.mqtt.port, "another port than api.port"),
    ]


def _clients(client_id: str) -> tuple[str, ...]:
    """List the client ids of the core's connections to the broker."""
    return client_id, f"{client_id}-commands", f"{client_id}-receipts"


def _is_name(template: str) -> bool:
    """Say whether a report's name can be made, stays in its folder, and differs from one time to the next."""
    try:
        first, second = (template.format(station="s", time=time, day="d", year="y", month="m") for time in ("1", "2"))
    except (KeyError, IndexError, ValueError):
        return False
    return first != second and not first.startswith("/") and ".." not in first.split("/") and "\\" not in first


def overlay(table: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Lay `IOT_<SECTION>_<KEY>` variables over a parsed file, in place. Raises ConfigError for one nobody reads."""
    for field in msgspec.structs.fields(Settings):
        kind = field.type
        if isinstance(kind, type) and issubclass(kind, _Section):
            for inner in msgspec.structs.fields(kind):
                name = f"IOT_{field.name}_{inner.name}".upper()
                if name in environ:
                    table.setdefault(field.name, {})[inner.name] = _typed(environ[name], inner.type)
            _refuse_unknown(field.name, kind, environ)
        elif (name := f"IOT_{field.name}".upper()) in environ and field.name != "language":
            table[field.name] = environ[name]


def _refuse_unknown(section: str, kind: type[_Section], environ: Mapping[str, str]) -> None:
    """Refuse a misspelt variable: it would be a setting that never takes effect."""
    prefix = f"IOT_{section}_".upper()
    known = {f"{prefix}{inner.name}".upper() for inner in msgspec.structs.fields(kind)}
    for name in sorted(environ):
        if name.startswith(prefix) and name not in known:
            key = name.removeprefix(prefix).lower()
            expected = f"Object contains unknown field `{key}`"
            raise ConfigError("config.invalid", file=name, line="?", key=f"{section}.{key}", expected=expected)


def masked(settings: Settings) -> dict[str, Any]:
    """Give the settings as plain data for people, every secret replaced."""
    plain: dict[str, Any] = msgspec.to_builtins(settings)
    for section in (plain, *(value for value in plain.values() if isinstance(value, dict))):
        for key in SECRET_KEYS & section.keys():
            if section[key]:
                section[key] = "********"
    return plain


def with_ports(settings: Settings, base: int) -> Settings:
    """Place every listener on ports from `base` on: API, MQTT, CoAP."""
    replace = msgspec.structs.replace
    return replace(
        settings,
        api=replace(settings.api, port=base),
        mqtt=replace(settings.mqtt, port=base + 1),
        coap=replace(settings.coap, port=base + 2),
    )


def default_state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Where state lives when nobody says: /var/lib/iot for root, else $XDG_STATE_HOME/iot."""
    environ = os.environ if environ is None else environ
    if "IOT_STATE" in environ:
        return Path(environ["IOT_STATE"])
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/iot")
    home = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "iot"


def environment(name: str, default: str = "") -> str:
    """Read one variable that is not a setting of the core (IOT_URL, IOT_TOKEN, GRAFANA_URL, NO_COLOR...)."""
    return os.environ.get(name, default)


def child_environment(**more: str) -> dict[str, str]:
    """Give this process's environment for a child, with some variables set."""
    return {**os.environ, **more}


def _typed(text: str, kind: Any) -> Any:
    """Turn an environment variable into what its key expects, leaving nonsense for the checker to name."""
    if kind is str:
        return text
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def _key_of(message: str) -> str:
    """Take the key out of msgspec's message: ``... - at `$.mqtt.port` `` or ``unknown field `prot` ``."""
    at = re.search(r"at `\$\.?([^`]*)`", message)
    unknown = re.search(r"unknown field `([^`]*)`", message)
    parts = [part for part in (at and at.group(1), unknown and unknown.group(1)) if part]
    return ".".join(parts)


def _line_of(text: str, key: str) -> int | str:
    """Find the line a dotted key stands on, for the error message; `?` when it is not in the file."""
    section, _, name = key.rpartition(".")
    inside = section == ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\]]+)\]", line)
        if header:
            inside = header.group(1).strip() == section
            if header.group(1).strip() == key:
                return number
        elif inside and re.match(rf"\s*{re.escape(name)}\s*=", line):
            return number
        elif re.match(rf"\s*{re.escape(key)}\s*=", line):
            return number  # written with dots
    return "?"
