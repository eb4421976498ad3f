"""One question of RTSP 1.0 (RFC 2326): OPTIONS, which names methods and starts nothing.

A camera that challenges it with Digest (RFC 7616) is shown the login, once; one that would have the password itself
(Basic) is not.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from typing import Final

__all__ = ["challenge", "options", "proof", "read_status", "request"]

_LONGEST: Final = 8_192
_STATUS: Final = re.compile(rb"RTSP/1\.[01] ([1-5]\d\d)(?: [^\r\n]*)?\r?\n")
_CSEQ: Final = re.compile(rb"^cseq:\s*([1-9])\s*$", re.IGNORECASE | re.MULTILINE)
_DIGEST: Final = re.compile(rb"^www-authenticate:\s*digest\s+(.*)$", re.IGNORECASE | re.MULTILINE)
_FIELD: Final = re.compile(r'(\w+)\s*=\s*(?:"([^"\\]*)"|([^\s,"]+))')
_HASHES: Final = {"MD5": "md5", "SHA-256": "sha256"}
_UNAUTHORIZED: Final = 401


def request(url: str, sequence: int = 1, authorization: str = "") -> bytes:
    """Write the question."""
    shown = f"Authorization: {authorization}\r\n" if authorization else ""
    return f"OPTIONS {url} RTSP/1.0\r\nCSeq: {sequence}\r\n{shown}User-Agent: iot-core\r\n\r\n".encode()


def read_status(answer: bytes, sequence: int = 1) -> int | None:
    """Give the status of an answer to our question; None for what is no RTSP, or answers another question."""
    status = _STATUS.match(answer)
    asked = _CSEQ.search(answer.replace(b"\r", b""))
    return int(status[1]) if status is not None and asked is not None and int(asked[1]) == sequence else None


def challenge(answer: bytes) -> dict[str, str] | None:
    """Give the fields of a Digest challenge that we can meet, by lower-case name; None where there is none."""
    for line in _DIGEST.findall(answer.replace(b"\r", b"")):
        found = _FIELD.findall(line.decode("latin-1"))
        fields = {name.lower(): quoted or bare for name, quoted, bare in found}
        qops = fields.get("qop", "auth").replace(" ", "").split(",")
        if {"realm", "nonce"} <= fields.keys() and _algorithm(fields) in _HASHES and "auth" in qops:
            return fields
    return None


def proof(login: tuple[str, str], asked: dict[str, str], url: str, cnonce: str) -> str:
    """Make the Authorization that meets a challenge (RFC 7616 3.4; without qop RFC 2617 3.2.2.1)."""
    name, password = login

    def hashed(text: str) -> str:
        return hashlib.new(_HASHES[_algorithm(asked)], text.encode(), usedforsecurity=False).hexdigest()

    count = "00000001"
    middle = f"{asked['nonce']}:{count}:{cnonce}:auth" if "qop" in asked else asked["nonce"]
    who, what = hashed(f"{name}:{asked['realm']}:{password}"), hashed(f"OPTIONS:{url}")
    response = hashed(f"{who}:{middle}:{what}")
    said = {"username": name, "realm": asked["realm"], "nonce": asked["nonce"], "uri": url, "response": response}
    said |= {each: asked[each] for each in ("opaque",) if each in asked}
    fields = [f'{key}="{_quoted(value)}"' for key, value in said.items()]
    fields += [f"algorithm={_algorithm(asked)}"] if "algorithm" in asked else []
    fields += ["qop=auth", f"nc={count}", f'cnonce="{cnonce}"'] if "qop" in asked else []
    return "Digest " + ", ".join(fields)


async def options(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: str, login: tuple[str, str] | None = None
) -> tuple[int | None, bool]:
    """Ask on an open connection; give the status, and whether the login was shown.

    No status when the other end closes or speaks no RTSP. The caller sets the deadline.
    """
    answer = await _asked(reader, writer, request(url))
    status = read_status(answer)
    asked = challenge(answer) if status == _UNAUTHORIZED and login is not None else None
    if asked is None or login is None:
        return status, False
    answer = await _asked(reader, writer, request(url, 2, proof(login, asked, url, secrets.token_hex(8))))
    again = read_status(answer, 2)
    return (status, False) if again is None else (again, True)  # it hung up after its challenge: that is all we know


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: bytes) -> bytes:
    writer.write(question)
    await writer.drain()
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < _LONGEST:
        more = await reader.read(_LONGEST)
        if not more:
            break
        answer += more
    return answer


def _algorithm(asked: dict[str, str]) -> str:
    return asked.get("algorithm", "MD5").upper()


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
