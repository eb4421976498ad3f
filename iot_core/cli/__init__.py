"""The command line `iot`. Modules of the command groups are imported only when they are invoked."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run `iot`: the entry point of the package."""
    from iot_core.cli.language import peek
    from iot_core.cli.streams import speak_every_language

    speak_every_language()
    peek(sys.argv[1:])
    from iot_core.cli.root import iot

    iot()
