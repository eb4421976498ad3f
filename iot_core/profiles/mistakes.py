"""All mistakes of a file that can be found independently: what is wrong is taken out, and the rest read again.

Only what stands by itself is taken out: an entry of `values`, a command, a topic, an example, an unknown key. After
anything else nobody knows whether the next complaint is a mistake, or follows from this one; there it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from iot_core.errors import ConfigError
from iot_core.profiles.bases import read_document
from iot_core.profiles.classes import read_class
from iot_core.profiles.compile import compile_profile
from iot_core.profiles.document import Mistake
from iot_core.profiles.load import CLASS_FILE, classes_beside, document_of

if TYPE_CHECKING:
    from iot_core.profiles.document import Document, Place
    from iot_core.profiles.load import Profiles

__all__ = ["mistakes"]

_ENTRIES: Final = frozenset({
    "values", "points", "states", "extra", "channels", "commands", "topics", "ports", "records", "examples", "metrics",
    "rules", "config",
})  # fmt: skip
"""Tables and lists whose entries say nothing of each other."""
_STAND_INS: Final = {
    "model": "x",
    "vendor": "x",
    "title": {"vi": "x", "en": "x"},
    "source": "x",
    "interval": "60s",
}
"""What may stand for a wrong or missing key at the top, so that the rest can be read."""
_EXAMPLE: Final = {"payload": "x", "held": "wrong_format"}
"""What may stand for a wrong example, so that those behind it keep their numbers."""
_MOST: Final = 50


def mistakes(path: Path, profiles: Profiles) -> list[ConfigError]:
    """Name the mistakes of a profile or class file, in the order of its lines; none for a good one."""
    found: list[ConfigError] = []
    taken: set[Place] = set()
    try:
        document, read = _reader(path, profiles)
    except ConfigError as exc:
        return [exc]
    for _ in range(_MOST):
        mistake = _mistake(document, read)
        if mistake is None:
            break
        if not isinstance(mistake, Mistake):
            return found or [mistake]
        if not _follows(mistake, document, taken):
            found.append(mistake)
        place = _take_out(document, mistake)
        if place is None or place in taken:
            break
        taken.add(place)
    return sorted(_independent(found), key=lambda each: int(str(each.facts.get("line", 0))))


def _reader(path: Path, profiles: Profiles) -> tuple[Document, Callable[[Document], object]]:
    if path.name == CLASS_FILE:
        key = path.resolve().parent.name
        known = classes_beside(path, profiles)
        return read_document(path), lambda document: read_class(document, key, known)
    found, class_file = document_of(path, profiles)
    return found, lambda document: compile_profile(document, class_file)


def _mistake(document: Document, read: Callable[[Document], object]) -> ConfigError | None:
    try:
        read(document)
    except ConfigError as exc:
        return exc
    return None


def _follows(mistake: Mistake, document: Document, taken: set[Place]) -> bool:
    """Say whether a complaint comes of what was taken out: about what it stood in, or what then is missing there."""
    place = mistake.place
    if any(gone[: len(place)] == place for gone in taken):
        return True
    missing = bool(place) and document.at(place) is None
    return missing and any(gone[:-1] == place[:-1] and len(gone) == len(place) for gone in taken)


def _take_out(document: Document, mistake: Mistake) -> Place | None:
    """Take a mistake out, with as little as stands by itself; give what, None where nothing does."""
    place = mistake.place
    around = document.at(place[:-1])
    if mistake.unknown_key and isinstance(around, dict) and place[-1] in around:
        document.put(place, None)
        return place
    if place[:1] and place[0] in _STAND_INS:
        document.put(place[:1], _STAND_INS[str(place[0])])
        return place[:1]
    for depth in range(len(place) - 1, 0, -1):
        entry = place[: depth + 1]
        if place[depth - 1] in _ENTRIES and document.at(entry) is not None:
            document.put(entry, _EXAMPLE if place[depth - 1] == "examples" else None)
            return entry
    return None


def _independent(found: list[ConfigError]) -> list[ConfigError]:
    """Leave out what rules and commands of a class say of metrics that could not be read."""
    metrics = [each for each in found if isinstance(each, Mistake) and each.place[:1] == ("metrics",)]
    if not metrics:
        return found
    on_metrics = {"rules", "config"}
    return [
        each for each in found if not (isinstance(each, Mistake) and each.place[:1] and each.place[0] in on_metrics)
    ]
