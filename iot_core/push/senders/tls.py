"""TLS as a target asks for it: its own certificate authority, and a certificate of ours (mTLS), both given as PEM."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iot_core.errors import RequestError


def context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """Make a context. Raises ssl.SSLError or OSError for what is no certificate."""
    made = ssl.create_default_context(cadata=options.get("ca") or None)
    if options.get("cert"):
        with tempfile.TemporaryDirectory() as folder:  # ssl reads a key from files only; the folder is ours alone
            path = Path(folder) / "pair.pem"
            path.touch(mode=0o600)
            path.write_text(f"{options['cert']}\n{options.get('key') or ''}\n", encoding="ascii")
            made.load_cert_chain(path, password="")
    return made


def check(options: Mapping[str, Any]) -> None:
    """Check certificates before they are kept. Raises RequestError, which repeats nothing of them."""
    try:
        context(options)
    except (ssl.SSLError, OSError, ValueError) as exc:
        raise RequestError("push.bad_certificate") from exc
