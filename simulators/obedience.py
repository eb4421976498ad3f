"""How a simulated native device takes commands and configuration: as docs/protocol.md asks, each command once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from simulators.secret import Secrets

__all__ = ["Obedience"]

_REMEMBERED: Final = 100
Carry = Callable[[str, Mapping[str, Any]], str]
"""Carries a command out; gives '' or why not."""


def _nothing(name: str, __: Mapping[str, Any]) -> str:
    return f"takes no {name}" if name in {"firmware", "secret"} else ""


@dataclass(slots=True)
class Obedience:
    """What a device remembers of what it was told: the last commands by id, its configuration."""

    carry: Carry = _nothing
    known: frozenset[str] | None = None
    """Keys of configuration that it knows; None: all."""
    secrets: Secrets | None = None
    """Where it keeps a new secret; None: it takes none."""
    config: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    carried: int = 0
    _answers: OrderedDict[int, dict[str, Any]] = field(default_factory=OrderedDict)

    def command(self, payload: bytes) -> bytes:
        """Take what came on `commands`; give what goes on `commands/result`. Heard twice, it is carried out once."""
        asked = msgspec.json.decode(payload)
        number = asked["id"]
        if number not in self._answers:
            self._answers[number] = {"id": number, **self._result(asked)}
            while len(self._answers) > _REMEMBERED:
                self._answers.popitem(last=False)
        return msgspec.json.encode(self._answers[number])

    def configure(self, payload: bytes) -> bytes:
        """Take what came on `config`; give what goes on `config/reported`."""
        told = msgspec.json.decode(payload)
        refused = {}
        for key, value in told["config"].items():
            if self.known is not None and key not in self.known:
                refused[key] = "unknown"
            else:
                self.config[key] = value
        if "schedule" not in told["config"]:
            self.config.pop("schedule", None)
        self.version = told["version"]
        return self.reported(refused)

    def reported(self, refused: Mapping[str, str] | None = None) -> bytes:
        """Say what it is set to."""
        return msgspec.json.encode({"version": self.version, "config": self.config, "refused": refused or {}})

    def _result(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        if datetime.fromisoformat(asked["expires"]) <= datetime.now(UTC):
            return {"state": "failed", "detail": "expired"}
        self.carried += 1
        if asked["name"] == "secret" and self.secrets is not None:
            return {"state": "succeeded", "proof": self.secrets.take(asked["params"]["secret"])}
        why = self.carry(asked["name"], asked["params"])
        return {"state": "failed", "detail": why} if why else {"state": "succeeded"}
