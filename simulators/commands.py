"""The commands `iot demo` and `iot sim`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click
from click.shell_completion import CompletionItem

from iot_core.cli.base import Command, Group, option
from iot_core.cli.config import found as found_config
from iot_core.cli.keys import MODEL
from iot_core.cli.output import line, note, show_one
from iot_core.cli.session import ask, endpoint, local_core
from iot_core.errors import RequestError, StartError
from iot_core.messages import text
from iot_core.settings import default_state_dir, load

if TYPE_CHECKING:
    from iot_core.settings import Settings
    from simulators.verdict import Verdict

__all__ = ["demo", "sim"]

_UNWATCHED_S: Final = 60
_SHORTEST_S: Final = 15
_SMALLEST: Final = 8
_CITY: Final = 120
_MQTT_PORT: Final = 1883
_COAP_PORT: Final = 5683
_KEY_BYTES: Final = 32
LOG: Final = "demo.log"


class _Fault(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A fault and its share; what is wrong with one is said when the city is planned."""

    name = "fault"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """Offer the faults that begin as typed."""
        from simulators.faults import ALL, FAULTS

        return [CompletionItem(name) for name in (*FAULTS, ALL) if name.startswith(incomplete)]


_devices = option(
    "--devices", type=click.IntRange(_SMALLEST, 2000), default=_CITY, metavar="N", help=text("demo.opt_devices")
)
_faults = option(
    "--fault", "faults", type=_Fault(), multiple=True, metavar="NAME[=SHARE]", help=text("demo.opt_fault"),
)  # fmt: skip
_seed = option("--seed", type=click.IntRange(0, 2**63 - 1), default=1, metavar="N", help=text("demo.opt_seed"))


@click.command(
    "demo",
    cls=Command,
    help=text("demo.help_demo"),
    examples=[
        "iot demo",
        "iot demo --seconds 20",
        "iot demo --devices 500 --seed 7 --state ~/city",
        "iot demo --fault all",
        "iot demo --fault offline=0.3 --fault broken",
    ],
)
@_devices
@option("--seconds", type=click.IntRange(min=_SHORTEST_S), metavar="N", help=text("demo.opt_seconds"))
@_seed
@option("--state", type=click.Path(path_type=Path), metavar="DIR", help=text("demo.opt_state"))
@option("--dsn", default="", metavar="DSN", help=text("demo.opt_dsn"))
@_faults
def demo(*, devices: int, seconds: int | None, seed: int, state: Path | None, dsn: str, faults: tuple[str, ...]) -> int:
    import msgspec

    settings = load(None)
    if dsn:
        settings = msgspec.structs.replace(settings, store=msgspec.structs.replace(settings.store, dsn=dsn))
    if seconds is None and not sys.stdout.isatty():
        seconds = _UNWATCHED_S
    folder = demo_state() if state is None else state.expanduser()
    verdict = _play(settings, folder, devices=devices, seconds=seconds, seed=seed, faults=faults)
    click.echo(msgspec.json.encode(verdict).decode())
    return 0 if verdict.good else 1


def demo_state() -> Path:
    """Keep the demo's state beside that of a real core, never in it."""
    real = default_state_dir()
    return real.with_name(f"{real.name}-demo")


def _play(
    settings: Settings, folder: Path, *, devices: int, seconds: int | None, seed: int, faults: tuple[str, ...]
) -> Verdict:
    try:
        from iot_core.state import locked
        from simulators.demo import Options, run_demo
        from simulators.faults import wishes
        from simulators.screen import screen
        from simulators.signals import run as run_simulation
    except ImportError as exc:
        raise StartError("cli.client_only", detail=str(exc)) from exc
    options = Options(devices=devices, seconds=seconds, seed=seed, faults=wishes(faults))
    with locked(folder) as state, screen() as seen:
        _log_to(state.path / LOG)
        seen.line(text("demo.state", state=state.path, log=state.path / LOG))
        return run_simulation(run_demo(options, settings, state, seen))


def _log_to(path: Path) -> None:
    """Keep the core's log off the screen."""
    import structlog

    from iot_core.cli.logs import unfailing

    path.touch(mode=0o600)
    file = unfailing(path.open("w", encoding="utf-8", buffering=1))
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file))
    logging.basicConfig(stream=file, level=logging.WARNING, force=True)


@click.group("sim", cls=Group, help=text("demo.help_sim"), examples=["iot sim run", "iot sim remove"])
def sim() -> None:
    pass


@sim.command(
    "run",
    help=text("demo.help_run"),
    examples=[
        "iot sim run --devices 50 --seconds 120",
        "iot sim run --model milesight-ct101 --model sdm630 --devices 4",
        "iot sim run --fault dead=0.1 --fault stuck=0.1",
        "iot sim run --model native-streetlight --devices 20 --firmware-key 5f0c2a91... --loss 0.3",
        "iot --url https://iot.example.vn --token TOKEN sim run",
    ],
)
@option("--devices", type=click.IntRange(1, 2000), metavar="N", help=text("demo.opt_sim_devices"))
@option("--model", "models", multiple=True, type=MODEL, metavar="MODEL", help=text("demo.opt_model"))
@option("--seconds", type=click.IntRange(min=1), metavar="N", help=text("demo.opt_seconds"))
@_seed
@option("--mqtt", default="", metavar="HOST:PORT", help=text("demo.opt_mqtt"))
@option("--coap", default="", metavar="HOST:PORT", help=text("demo.opt_coap"))
@option("--host", default="", metavar="ADDRESS", help=text("demo.opt_host"))
@option("--firmware-key", "signers", multiple=True, metavar="HEX", help=text("demo.opt_firmware_key"))
@option("--loss", type=click.FloatRange(0, 0.9), default=0.0, metavar="X", help=text("demo.opt_loss"))
@_faults
def run(
    *, devices: int | None, models: tuple[str, ...], seconds: int | None, seed: int, mqtt: str, coap: str, host: str,
    signers: tuple[str, ...], loss: float, faults: tuple[str, ...],
) -> int:  # fmt: skip
    import msgspec

    try:
        from simulators.faults import wishes
        from simulators.screen import screen
        from simulators.signals import run as run_simulation
        from simulators.sim import Size, Target, is_here, memory_folder, run_sim
        from simulators.town import Endpoints
    except ImportError as exc:
        raise StartError("cli.client_only", detail=str(exc)) from exc
    core = endpoint()
    core_host = urlsplit(core.url).hostname or "127.0.0.1"
    if seconds is None and not sys.stdout.isatty():
        seconds = _UNWATCHED_S
    target = Target(
        url=core.url,
        token=core.token,
        endpoints=Endpoints(
            mqtt=_address(mqtt, core_host, _port("mqtt", _MQTT_PORT)),
            coap=_address(coap, core_host, _port("coap", _COAP_PORT)),
        ),
        gateway_host=host or ("127.0.0.1" if is_here(core_host) else ""),
        memory=memory_folder(default_state_dir().with_name("iot-sim"), core.url),
    )
    with screen() as seen:
        count = devices or (len(models) if models else _CITY)
        size = Size(
            devices=count, seconds=seconds, seed=seed, models=models, profiles=load(found_config(None)).profiles,
            signers=[_public(each) for each in signers], loss=loss, faults=wishes(faults),
        )  # fmt: skip
        summary = run_simulation(run_sim(size, target, seen))
    click.echo(msgspec.json.encode(summary).decode())
    return 1 if summary.unanswered else 0


@sim.command("remove", help=text("demo.help_remove"), examples=["iot sim remove"])
def remove() -> None:
    try:
        from simulators.registration import retire_all
    except ImportError as exc:
        raise StartError("cli.client_only", detail=str(exc)) from exc
    devices, empty = ask(retire_all)
    show_one({"devices": devices, "areas": empty}, lambda: line("demo.retired", devices=devices))
    if empty:
        note("demo.areas_stay", n=len(empty), areas=", ".join(empty))


def _public(said: str) -> bytes:
    """Read a signer's public key."""
    try:
        raw = bytes.fromhex(said)
    except ValueError:
        raise RequestError("firmware.bad_key") from None
    if len(raw) != _KEY_BYTES:
        raise RequestError("firmware.bad_key")
    return raw


def _port(part: str, default: int) -> int:
    """Give the port that the core on this machine announced, when one runs here."""
    here = local_core(needed=False)
    running = None if here is None else here.running()
    return default if running is None else running.ports.get(part, default)


def _address(said: str, host: str, port: int) -> tuple[str, int]:
    if not said:
        return host, port
    before, _, after = said.rpartition(":")
    if not before or not after.isdigit():
        raise RequestError("demo.bad_address", said=said)
    return before, int(after)
