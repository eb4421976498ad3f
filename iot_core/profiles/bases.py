"""What a profile extends: another model, or a family, whose keys hold for it as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from iot_core.errors import ConfigError
from iot_core.profiles.document import Document
from iot_core.profiles.near import like

__all__ = ["FAMILIES", "Bases", "model_of", "read_document"]

FAMILIES: Final = "_families"
_OWN: Final = ("extends", "model", "examples")
"""Keys of a base that hold for the base alone."""
_DEEPEST: Final = 5


class Bases:
    """Finds bases in folders, the first folder that has one wins: `_families/NAME.yaml`, or the file of a model."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = tuple(dict.fromkeys(folders))
        self._models: dict[str, Path] | None = None
        self.asked: set[str] = set()
        """The bases that any document named."""

    def has_any(self, names: Iterable[str]) -> bool:
        """Say whether any of these is the name of a base here."""
        return not {*self._families(), *self._by_model()}.isdisjoint(names)

    def document(self, path: Path) -> Document:
        """Read a profile, and put what it extends below it. Raises ConfigError."""
        return self._extended(read_document(path), ())

    def _extended(self, document: Document, below: tuple[str, ...]) -> Document:
        name = document.at(("extends",)) if isinstance(document.data, dict) else None
        if name is None:
            return document
        if not isinstance(name, str) or not name:
            raise document.error(("extends",), "the name of a family or model")
        if name in below or len(below) >= _DEEPEST:
            raise document.error(
                ("extends",), f"no circle, and at most {_DEEPEST} steps ({' -> '.join((*below, name))})"
            )
        self.asked.add(name)
        path = self._find(name, Path(document.file))
        if path is None and name == document.at(("model",)):
            raise document.error(("extends",), f"another model or a family, not itself ({name} -> {name} is a circle)")
        if path is None:
            known = sorted({*self._families(), *self._by_model()})
            raise document.error(
                ("extends",), f"a family ({', '.join(self._families())}) or a model{like(name, known)}"
            )
        base = self._extended(read_document(path), (*below, name))
        if not isinstance(base.data, dict):
            raise document.error(("extends",), f"a base that is a mapping, unlike {path}")
        for key in _OWN:
            base.data.pop(key, None)
        document.extend(base)
        return document

    def _find(self, name: str, asking: Path) -> Path | None:
        for folder in self._folders:
            family = folder / FAMILIES / f"{name}.yaml"
            if family.is_file():
                return family
        found = self._by_model().get(name)
        return None if found is None or found == asking else found

    def _families(self) -> list[str]:
        return sorted({path.stem for folder in self._folders for path in (folder / FAMILIES).glob("*.yaml")})

    def _by_model(self) -> dict[str, Path]:
        if self._models is None:
            self._models = {}
            for path in self._files():
                model = model_of(path)
                if model:
                    self._models.setdefault(model, path)
        return self._models

    def _files(self) -> Iterator[Path]:
        for folder in self._folders:
            yield from (path for path in sorted(folder.glob("[!_.]*/*.yaml")) if path.name != "class.yaml")


def read_document(path: Path) -> Document:
    """Read a YAML file. Raises ConfigError."""
    try:
        return Document(path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError("profile.unreadable", file=path, detail=str(exc)) from exc


def model_of(path: Path) -> str:
    """Take the model out of a file without reading it as YAML: one line says it."""
    try:
        with path.open(encoding="utf-8") as file:
            line = next((each for each in file if each.startswith("model:")), "")
    except (OSError, UnicodeDecodeError):
        return ""
    return line.removeprefix("model:").partition(" #")[0].strip().strip("\"'")
