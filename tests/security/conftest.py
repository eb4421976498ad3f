from __future__ import annotations

from tests.api.conftest import city

__all__ = ["city"]
