"""Our errors: one class for each different reaction.

* IotError                     - the base; carries a code and facts, the sentence stands in the catalogue
  + ConfigError                - stop: a setting, file or profile is wrong; nothing was started
  + StartError                 - stop: the world around us is not fit (port taken, disk full, database too old)
  + RequestError               - reject: a person or script asked for something that cannot be done
    - NotFoundError            - ... because the thing named is not there
    - ConflictError            - ... because it is there already, or was changed by someone else
    - ForbiddenError           - ... because the asker has no right to it
  + DecodeError                - hold: these bytes do not say what the profile expects
  + StoreUnavailable           - wait: the database does not answer; nothing was acknowledged
  + DriverUnavailable          - retry: a protocol's other end is away; restart the driver with back-off
  + CommandRejected            - tell: the device said no
  + DeviceUnreachable          - tell: the device said nothing
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iot_core.model import Reason


class IotError(Exception):
    """Base of our errors: `code` finds the sentence in the catalogue, `facts` fill it."""

    def __init__(self, code: str, **facts: object) -> None:
        self.code = code
        self.facts = facts
        said = ", ".join(f"{key}={value}" for key, value in facts.items())
        super().__init__(f"{code}: {said}" if said else code)


class ConfigError(IotError):
    """Raised when a setting, file or profile is wrong; names file, key and the expected form."""


class StartError(IotError):
    """Raised when the core cannot start: a port in use, a full disk, a database too old, a second core."""


class RequestError(IotError):
    """Raised when a request cannot be carried out as asked."""


class NotFoundError(RequestError):
    """Raised when the thing a request names does not exist."""


class ConflictError(RequestError):
    """Raised when a request meets something that exists already or has changed meanwhile."""


class ForbiddenError(RequestError):
    """Raised when the asker lacks the right; the facts name which."""


class DecodeError(IotError):
    """Raised inside a profile's decoder when the bytes do not have the expected form."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"held.{reason}", detail=detail)


class StoreUnavailable(IotError):
    """Raised when the database does not answer; nothing may be acknowledged."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("store.unavailable", detail=detail)


class DriverUnavailable(IotError):
    """Raised when the other end of a protocol is away; the driver is restarted with back-off."""


class CommandRejected(IotError):
    """Raised when a device refuses a command."""


class DeviceUnreachable(IotError):
    """Raised when a device does not answer."""
