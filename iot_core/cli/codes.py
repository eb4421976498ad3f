"""QR codes: what goes into a device for a camera to read, on the terminal, as PNG, and as labels on a sheet."""

from __future__ import annotations

import html
import io
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot_core.messages import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["Label", "content", "drawn", "sheet", "write_png", "write_private"]

_STYLE = """
@page { size: A4; margin: 10mm }
body { margin: 0; font: 9pt/1.25 sans-serif }
main { display: grid; grid-template-columns: repeat(3, 1fr); gap: 3mm }
section { display: flex; gap: 3mm; height: 32mm; padding: 2mm; border: .2mm dashed #999; break-inside: avoid;
  overflow: hidden }
svg { flex: none; width: 28mm; height: 28mm }
b { display: block; font-size: 11pt; overflow-wrap: anywhere }
p { margin: 0 0 .5mm; overflow-wrap: anywhere }
"""


@dataclass(frozen=True, slots=True)
class Label:
    """One label: what its code says, its key in bold, and lines beside it."""

    code: str
    key: str
    lines: Sequence[str]


def content(facts: Iterable[tuple[str, str]]) -> str:
    """Write what goes into a device as one line of JSON, the same in every language: `{"broker": ..., "user": ...}`."""
    return json.dumps({heading.removeprefix("cli.into_"): said for heading, said in facts}, separators=(",", ":"))


def drawn(said: str) -> str:
    """Draw a code with half blocks, two rows of squares a line; light squares are drawn, as on a dark terminal."""
    import segno

    out = io.StringIO()
    segno.make_qr(said, error="l").terminal(out, border=2, compact=True)
    return out.getvalue()


def write_png(path: Path, said: str) -> None:
    """Write a code as a picture that only its owner may read: it may hold a secret."""
    import segno

    out = io.BytesIO()
    segno.make_qr(said, error="m").save(out, kind="png", scale=8, border=4)
    write_private(path, out.getvalue())


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, from its first moment on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), 0o600)
        file.write(data)


def sheet(labels: Iterable[Label], language: str) -> str:
    """Write labels as a page of HTML to be printed on A4, three in a row; it refers to nothing outside of itself."""
    made = "\n".join(_section(label) for label in labels)
    title = html.escape(text("labels.title"))
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><main>\n{made}\n</main></body></html>\n"
    )


def _section(label: Label) -> str:
    import segno

    svg = segno.make_qr(label.code, error="m").svg_inline(border=2, omitsize=True)
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in label.lines if line)
    return f"<section>{svg}<div><b>{html.escape(label.key)}</b>{lines}</div></section>"
