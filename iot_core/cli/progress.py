"""A progress bar on stderr for long work; silent where no person watches."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from iot_core.settings import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["bar"]


@contextmanager
def bar(what: str, total: float | None) -> Iterator[Callable[[float], None]]:
    """Show a bar while the block lasts; the function it gives moves it on. Without a total it shows that it lives."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, color_system=None if environment("NO_COLOR") else "auto")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda by: progress.advance(task, by)
