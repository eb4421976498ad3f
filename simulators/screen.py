"""What a person sees of the demo: a live screen on a terminal, plain lines anywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import click
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from iot_core.messages import text
from simulators.ledger import PROTOCOLS

PLAIN_EVERY_S: Final = 5.0


@dataclass(slots=True)
class Figures:
    """What changes while the city runs."""

    second: float = 0.0
    devices: dict[str, int] = field(default_factory=dict)
    published: dict[str, int] = field(default_factory=dict)
    commit_ms: float | None = None
    received: int = 0


class Screen(Protocol):
    """Takes lines that stay and figures that change. `watched`: a person sits before it."""

    watched: bool

    def line(self, sentence: str) -> None:
        """Say something once."""

    def figures(self, now: Figures) -> None:
        """Show how it goes."""


class PlainScreen:
    """Lines on stdout; the figures every few seconds. For no terminal, and for one that cannot draw."""

    def __init__(self, *, watched: bool) -> None:
        self.watched = watched
        self._next_s = 0.0

    def line(self, sentence: str) -> None:
        """Print it."""
        click.echo(sentence)

    def figures(self, now: Figures) -> None:
        """Print them when their time has come."""
        if now.second < self._next_s:
            return
        self._next_s = now.second + PLAIN_EVERY_S
        click.echo(text("demo.figures", second=f"{now.second:.0f}", received=now.received, **now.published))


class LiveScreen:
    """A table that changes in place, below the lines that stay."""

    watched = True

    def __init__(self, live: Live) -> None:
        self._live = live

    def line(self, sentence: str) -> None:
        """Print it above the table, where it stays."""
        self._live.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def figures(self, now: Figures) -> None:
        """Draw them."""
        self._live.update(_drawn(now))


def _drawn(now: Figures) -> Panel:
    table = Table(expand=False, box=None)
    for column in ("demo.column_protocol", "demo.column_devices", "demo.column_published"):
        table.add_column(text(column), justify="left" if column == "demo.column_protocol" else "right")
    for protocol in (*PROTOCOLS, *(["camera"] if "camera" in now.devices else [])):
        name = {"mqtt": "MQTT", "coap": "CoAP", "modbus": "Modbus TCP", "camera": "RTSP, ONVIF"}[protocol]
        table.add_row(name, str(now.devices.get(protocol, 0)), str(now.published.get(protocol, 0)))
    commit = "…" if now.commit_ms is None else f"{now.commit_ms:.0f}"
    foot = text("demo.foot", commit=commit, received=now.received)
    return Panel(Group(table, foot), title=text("demo.title", second=f"{now.second:.0f}"), expand=False)


@contextmanager
def screen() -> Iterator[Screen]:
    """Give the screen that fits where stdout goes."""
    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainScreen(watched=console.is_terminal)
        return
    with Live(_drawn(Figures()), console=console, refresh_per_second=4, transient=True) as live:
        yield LiveScreen(live)
