"""Why nothing came over a Modbus line: two English words in facts, JSON and logs, a few more in a person's language."""

from __future__ import annotations

import re
from typing import Final

from iot_core.messages import text

__all__ = ["spoken"]

_WORDS: Final = {
    "timeout": "modbus.why_timeout",
    "closed": "modbus.why_closed",
    "garbage": "modbus.why_garbage",
    "malformed": "modbus.why_malformed",
    "refused": "modbus.why_refused",
    "no route": "modbus.why_no_route",
    "no such port": "modbus.why_no_such_port",
    "no permission": "modbus.why_no_permission",
    "in use": "modbus.why_in_use",
    "no connection": "modbus.why_no_connection",
    "left out": "modbus.why_left_out",
}
_EXCEPTIONS: Final = {
    "1": "modbus.why_exception_1",
    "2": "modbus.why_exception_2",
    "3": "modbus.why_exception_3",
    "4": "modbus.why_exception_4",
    "5": "modbus.why_exception_5",
    "6": "modbus.why_exception_6",
    "8": "modbus.why_exception_8",
    "10": "modbus.why_exception_10",
    "11": "modbus.why_exception_11",
}
# One reason, or several: `holding:0: timeout, input:9: exception 2`.
_REASON: Final = re.compile(rf"(?:(?<=: )|^)(?:exception (?P<code>\d+)|(?P<word>{'|'.join(_WORDS)}))(?=, |$)")


def spoken(reason: str, lang: str = "") -> str:
    """Say each reason in the language of the rest; what is none stays as it is."""

    def said(found: re.Match[str]) -> str:
        code = found["code"]
        if code is None:
            return text(_WORDS[found["word"]], lang)
        return text(_EXCEPTIONS.get(code, "modbus.why_exception"), lang, code=code)

    return _REASON.sub(said, reason)
