"""Find class.yaml and profile files, shipped and own, and compile them all."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from iot_core.errors import ConfigError, NotFoundError
from iot_core.model import DeviceClass
from iot_core.profiles.bases import Bases, model_of, read_document
from iot_core.profiles.classes import ClassFile, read_class
from iot_core.profiles.compile import compile_profile
from iot_core.profiles.document import Document
from iot_core.profiles.profile import Profile
from iot_core.profiles.stand_in import Known, reason_of, stand_in

__all__ = ["CLASS_FILE", "Broken", "Profiles", "document_of", "load", "load_file", "load_tolerant"]

CLASS_FILE = "class.yaml"


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that could not be used, with the reason, and the model that it would define (empty for a class)."""

    file: str
    error: ConfigError
    model: str = ""
    kept: bool = False
    """Its last good version goes on; else whatever the devices of this model say is held."""


class Profiles:
    """All classes and profiles, compiled. A running core's are renewed in place when files change (follow.py)."""

    def __init__(
        self,
        classes: Mapping[str, ClassFile],
        profiles: Mapping[str, Profile],
        folders: Sequence[Path] = (),
        broken: Sequence[Broken] = (),
    ) -> None:
        self.folders = tuple(folders)
        """Where they come from, the own folder first."""
        self.broken = tuple(broken)
        """Files of the own folder that cannot be used as they are now."""
        self.version = 0
        """Grows each time that they are renewed."""
        self._class_files = dict(classes)
        self._profiles = dict(sorted(profiles.items()))
        self.classes: Mapping[str, DeviceClass] = {
            key: each.device_class for key, each in sorted(self._class_files.items())
        }

    def renew(self, other: Profiles) -> None:
        """Take over the profiles of `other`, and its classes; one whose file is gone stays, as its table does."""
        self._profiles = other._profiles
        self._class_files = {**self._class_files, **other._class_files}
        self.classes = {**self.classes, **other.classes}
        self.broken = other.broken
        self.version += 1

    def hold(self, known: Iterable[Known]) -> None:
        """Let profiles that hold everything stand in for those whose files are broken and have no good version here."""
        lost = {each.model: each for each in self.broken if each.model and not each.kept}
        for each in known:
            there = self._profiles.get(each.model)
            if each.model in lost and (there is None or there.broken):
                self._profiles[each.model] = stand_in(each, lost[each.model], self.classes)
        self._profiles = dict(sorted(self._profiles.items()))

    def get(self, model: str) -> Profile:
        """Find a profile. Raises NotFoundError with the names that look like it."""
        try:
            return self._profiles[model]
        except KeyError:
            for each in self.broken:
                if each.model == model:
                    raise NotFoundError("profile.broken", model=model, reason=reason_of(each.error)) from None
            like = difflib.get_close_matches(model, self._profiles, n=3, cutoff=0.4) or list(self._profiles)[:3]
            raise NotFoundError("profile.unknown", model=model, like=", ".join(like)) from None

    def native(self, class_key: str) -> Profile:
        """Find the profile of a class's native contract."""
        return self.get(native_model(class_key))

    def all(self) -> Sequence[Profile]:
        """All profiles, by model."""
        return tuple(self._profiles.values())

    def class_file(self, class_key: str) -> ClassFile | None:
        """Find a class with what only profiles need of it."""
        return self._class_files.get(class_key)


def native_model(class_key: str) -> str:
    """Name the model of a class's native profile."""
    return f"native-{class_key.replace('_', '-')}"


def load(folder: Path | None = None) -> Profiles:
    """Load the shipped folder, then the own one, whose classes and models override. Raises ConfigError."""
    return _Loader().load(folder)


def load_tolerant(
    folder: Path | None, running: Profiles | None = None, refused: Mapping[str, ConfigError] | None = None
) -> Profiles:
    """Load as `load` does, but let a broken file of the own folder stop nothing: it is named in `.broken`.

    Beside the profiles of a running core its last good version goes on, of a class too. `refused`: own classes, by
    key, for which the database has no room, and why. Raises ConfigError for a shipped file, and where there is no
    folder.
    """
    return _Loader(tolerant=True, running=running, refused=refused).load(folder)


def load_file(path: Path, profiles: Profiles) -> Profile:
    """Compile one profile file. Its class is the folder that it lies in. Raises ConfigError."""
    return compile_profile(*document_of(path, profiles))


def document_of(path: Path, profiles: Profiles) -> tuple[Document, ClassFile]:
    """Read one profile file and the class that it is compiled against. Raises ConfigError."""
    if not path.is_file():
        raise ConfigError("profile.unreadable", file=path, detail="no such file")
    bases = Bases([path.resolve().parent.parent, *profiles.folders])
    class_key = path.resolve().parent.name
    class_file = profiles.class_file(class_key)
    beside = path.parent / CLASS_FILE
    if beside.is_file():
        class_file = read_class(read_document(beside), class_key, classes_beside(beside, profiles))
    if class_file is None:
        known = ", ".join(profiles.classes)
        raise ConfigError("profile.no_class", file=path, folder=class_key, known=known)
    return bases.document(path), class_file


def classes_beside(path: Path, profiles: Profiles) -> frozenset[str]:
    """Name the classes that a class.yaml may speak of: those loaded, and those in its folder's neighbours."""
    return frozenset({*profiles.classes, *_classes_in(path.resolve().parent.parent)})


class _Loader:
    """Loads folders one after the other; the later one overrides."""

    def __init__(
        self,
        *,
        tolerant: bool = False,
        running: Profiles | None = None,
        refused: Mapping[str, ConfigError] | None = None,
    ) -> None:
        self._tolerant = tolerant
        self._running = running
        self._refused = refused or {}
        self._before = {each.file: each for each in running.all()} if running is not None else {}
        self._classes: dict[str, ClassFile] = {}
        self._known: frozenset[str] = frozenset()
        self._profiles: dict[str, Profile] = {}
        self._broken: list[Broken] = []
        self.extended: frozenset[str] = frozenset()
        """The bases that shipped profiles extend."""

    def load(self, folder: Path | None) -> Profiles:
        if folder is not None and not folder.is_dir():
            raise ConfigError("profile.no_folder", folder=folder)
        with resources.as_file(resources.files("device_profiles")) as shipped:
            if folder is None:
                self._take(_shipped(shipped))
                return Profiles(self._classes, self._profiles, [shipped])
            bases = Bases([folder, shipped])
            self._known = frozenset([*_classes_in(shipped), *_classes_in(folder)])
            self._load_shipped(shipped, bases, folder)
            self._load_folder(folder, bases, tolerant=self._tolerant)
        return Profiles(self._classes, self._profiles, [folder, shipped], self._broken)

    def load_alone(self, shipped: Path) -> None:
        bases = Bases([shipped])
        self._known = frozenset(_classes_in(shipped))
        self._load_folder(shipped, bases, tolerant=False)
        self.extended = frozenset(bases.asked)

    def _load_shipped(self, shipped: Path, bases: Bases, own: Path) -> None:
        """Take what was compiled already, unless a base in the own folder stands before a shipped one."""
        alone = _shipped(shipped)
        if Bases([own]).has_any(alone.extended):
            try:
                self._load_folder(shipped, bases, tolerant=False)
            except ConfigError as exc:
                if not self._tolerant:
                    raise
                self._broken.append(Broken(str(exc.facts.get("file", "")), exc))
            else:
                return
        self._take(alone)

    def _take(self, shipped: _Loader) -> None:
        self._classes.update(shipped._classes)
        self._profiles.update(shipped._profiles)

    def _load_folder(self, folder: Path, bases: Bases, *, tolerant: bool) -> None:
        mine: dict[str, str] = {}
        for class_folder in sorted(each for each in folder.iterdir() if _holds_yaml(each)):
            self._load_class(class_folder, tolerant=tolerant)
            for path in _profile_files(class_folder):
                try:
                    profile = self._compiled(path, bases)
                    if profile.model in mine:
                        document = bases.document(path)
                        raise document.error(("model",), f"a model that {mine[profile.model]} does not define already")
                except ConfigError as exc:
                    if not tolerant:
                        raise
                    self._keep(path, exc, mine)
                    continue
                mine[profile.model] = path.name
                self._profiles[profile.model] = profile
        self._hold_shipped(mine)

    def _load_class(self, class_folder: Path, *, tolerant: bool) -> None:
        path, key = class_folder / CLASS_FILE, class_folder.name
        if not path.is_file():
            return
        try:
            found = read_class(read_document(path), key, self._known)
            if tolerant and key in self._refused:
                raise self._refused[key]
        except ConfigError as exc:
            if not tolerant:
                raise
            self._broken.append(Broken(str(path), exc))
            before = self._running.class_file(key) if self._running is not None else None
            if before is None:
                return
            found = before
        self._classes[key] = found

    def _compiled(self, path: Path, bases: Bases) -> Profile:
        class_file = self._classes.get(path.parent.name)
        if class_file is None:
            beside = str(path.parent / CLASS_FILE)
            if any(each.file == beside for each in self._broken):
                raise ConfigError("profile.class_broken", file=path, class_file=beside)
            known = ", ".join(sorted(self._classes))
            raise ConfigError("profile.no_class", file=path, folder=path.parent.name, known=known)
        return compile_profile(bases.document(path), class_file)

    def _keep(self, path: Path, error: ConfigError, mine: dict[str, str]) -> None:
        """Name a broken file, and let the last good version of it go on."""
        before = self._before.get(str(path))
        kept = before is not None and not before.broken
        model = before.model if before is not None else model_of(path)
        self._broken.append(Broken(str(path), error, model, kept))
        if before is not None and kept:
            mine[before.model] = path.name
            self._profiles[before.model] = before

    def _hold_shipped(self, mine: Mapping[str, str]) -> None:
        """Let no shipped model read what an own one of its name, broken now, was written for."""
        for each in self._broken:
            shipped = self._profiles.get(each.model)
            if shipped is not None and each.model not in mine:
                known = Known(
                    model=shipped.model,
                    class_key=shipped.class_key,
                    interval=shipped.interval,
                    metrics=shipped.metrics,
                    address=shipped.address,
                    topics=shipped.topics,
                )
                classes = {key: found.device_class for key, found in self._classes.items()}
                self._profiles[each.model] = stand_in(known, each, classes)


@cache
def _shipped(folder: Path) -> _Loader:
    """Compile the shipped folder by itself, once: it does not change while a process runs."""
    loader = _Loader()
    loader.load_alone(folder)
    return loader


def _holds_yaml(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith((".", "_")) and any(path.glob("*.yaml"))


def _classes_in(folder: Path) -> Iterator[str]:
    return (path.parent.name for path in folder.glob(f"*/{CLASS_FILE}"))


def _profile_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*.yaml")) if path.name != CLASS_FILE)
