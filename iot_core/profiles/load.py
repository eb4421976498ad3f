"""Find class.yaml and profile files, shipped and own, and compile them all."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from iot_core.errors import ConfigError, NotFoundError
from iot_core.model import DeviceClass
from iot_core.profiles.bases import Bases, read_document
from iot_core.profiles.classes import ClassFile, read_class
from iot_core.profiles.compile import compile_profile
from iot_core.profiles.profile import Profile

__all__ = ["CLASS_FILE", "Broken", "Profiles", "load", "load_file", "load_tolerant"]

CLASS_FILE = "class.yaml"


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that could not be used, with the reason. `kept` is the model whose last good version goes on."""

    file: str
    error: ConfigError
    kept: str = ""


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
        """Take over the profiles of `other`; the classes stay, because tables stand for them."""
        self._profiles = other._profiles
        self.broken = other.broken
        self.version += 1

    def get(self, model: str) -> Profile:
        """Find a profile. Raises NotFoundError with the names that look like it."""
        try:
            return self._profiles[model]
        except KeyError:
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


def load_tolerant(folder: Path | None, running: Profiles | None = None) -> Profiles:
    """Load as `load` does, but let a broken file of the own folder change nothing: it is named in `.broken`.

    Beside the profiles of a running core its last good version goes on, and its classes stay as they are.
    """
    return _Loader(tolerant=True, running=running).load(folder)


def load_file(path: Path, profiles: Profiles) -> Profile:
    """Compile one profile file. Its class is the folder that it lies in. Raises ConfigError."""
    if not path.is_file():
        raise ConfigError("profile.unreadable", file=path, detail="no such file")
    bases = Bases([path.resolve().parent.parent, *profiles.folders])
    class_key = path.resolve().parent.name
    class_file = profiles.class_file(class_key)
    beside = path.parent / CLASS_FILE
    if beside.is_file():
        class_file = read_class(read_document(beside), class_key)
    if class_file is None:
        known = ", ".join(profiles.classes)
        raise ConfigError("profile.no_class", file=path, folder=class_key, known=known)
    return compile_profile(bases.document(path), class_file)


class _Loader:
    """Loads folders one after the other; the later one overrides."""

    def __init__(self, *, tolerant: bool = False, running: Profiles | None = None) -> None:
        self._tolerant = tolerant
        self._running = running
        self._before = {each.file: each for each in running.all()} if running is not None else {}
        self._classes: dict[str, ClassFile] = {}
        self._profiles: dict[str, Profile] = {}
        self._broken: list[Broken] = []

    def load(self, folder: Path | None) -> Profiles:
        if folder is not None and not folder.is_dir():
            raise ConfigError("profile.no_folder", folder=folder)
        with resources.as_file(resources.files("device_profiles")) as shipped:
            folders = [shipped, *([folder] if folder is not None else [])]
            bases = Bases(folders[::-1])
            for source in folders:
                self._load_folder(source, bases)
        return Profiles(self._classes, self._profiles, folders[::-1], self._broken)

    def _load_folder(self, folder: Path, bases: Bases) -> None:
        mine: dict[str, str] = {}
        for class_folder in sorted(each for each in folder.iterdir() if _holds_yaml(each)):
            self._load_class(class_folder)
            for path in _profile_files(class_folder):
                try:
                    profile = self._compiled(path, bases)
                    if profile.model in mine:
                        document = bases.document(path)
                        raise document.error(("model",), f"a model that {mine[profile.model]} does not define already")
                except ConfigError as exc:
                    if not self._tolerant:
                        raise
                    self._keep(path, exc, mine)
                    continue
                mine[profile.model] = path.name
                self._profiles[profile.model] = profile

    def _load_class(self, class_folder: Path) -> None:
        path, key = class_folder / CLASS_FILE, class_folder.name
        if not path.is_file():
            return
        try:
            found = read_class(read_document(path), key)
            if self._running is not None:
                found = self._as_running(path, key, found)
        except ConfigError as exc:
            if not self._tolerant:
                raise
            self._broken.append(Broken(str(path), exc))
            before = self._running.class_file(key) if self._running is not None else None
            if before is None:
                return
            found = before
        self._classes[key] = found

    def _as_running(self, path: Path, key: str, found: ClassFile) -> ClassFile:
        """Give the class that the tables stand for. Raises ConfigError when the file says another one."""
        assert self._running is not None
        before = self._running.class_file(key)
        own = self._running.folders[0] if len(self._running.folders) > 1 else None
        if own is not None and path.is_relative_to(own) and found != before:
            raise ConfigError("profile.class_waits", file=path, device_class=key)
        return before or found

    def _compiled(self, path: Path, bases: Bases) -> Profile:
        class_file = self._classes.get(path.parent.name)
        if class_file is None:
            known = ", ".join(sorted(self._classes))
            raise ConfigError("profile.no_class", file=path, folder=path.parent.name, known=known)
        return compile_profile(bases.document(path), class_file)

    def _keep(self, path: Path, error: ConfigError, mine: dict[str, str]) -> None:
        """Name a broken file, and let the last good version of it go on."""
        before = self._before.get(str(path))
        self._broken.append(Broken(str(path), error, before.model if before is not None else ""))
        if before is not None:
            mine[before.model] = path.name
            self._profiles[before.model] = before


def _holds_yaml(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith((".", "_")) and any(path.glob("*.yaml"))


def _profile_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*.yaml")) if path.name != CLASS_FILE)
