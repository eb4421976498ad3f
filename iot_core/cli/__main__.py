"""`python -m iot_core.cli` is `iot`."""

from __future__ import annotations

from iot_core.cli import main

if __name__ == "__main__":
    main()
