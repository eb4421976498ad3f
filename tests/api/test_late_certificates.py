"""The command line starts without reading the machine's certificates, and verifies with them all the same."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SAY = """
import asyncio, ssl, sys
read = []
now = ssl.SSLContext.load_default_certs
ssl.SSLContext.load_default_certs = lambda self, *purpose: (read.append("late"), now(self, *purpose))[1]
from iot_core.client import Client
from iot_core.errors import IotError
import aiohttp
assert ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_default_verify_paths() is None
async def ask(url):
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(url) as answer:
                return answer.status
        except aiohttp.ClientConnectorCertificateError:
            return "refused"
print(read, end=" ")
print(*[asyncio.run(ask(url)) for url in sys.argv[1:]], read[0], len(read))
"""


async def test_certificates_are_read_by_the_first_connection_that_needs_them(tmp_path: Path) -> None:
    key, mine = tmp_path / "key.pem", tmp_path / "mine.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(mine)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mine, key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "localhost", 0, ssl=context) as server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
        said = [await _said(url, url, SSL_CERT_FILE=str(trusted)) for trusted in (mine, tmp_path / "none.pem")]
    assert said == ["[] 204 204 late 1", "[] refused refused late 1"]


async def _said(*urls: str, **environment: str) -> str:
    words = [sys.executable, "-c", SAY, *urls]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*words, env=environment, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    return out.decode().strip() or err.decode()
