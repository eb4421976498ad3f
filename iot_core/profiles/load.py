"""Find class.yaml and profile files, shipped and own, and compile them all."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

from iot_core.errors import ConfigError, NotFoundError
from iot_core.model import DeviceClass
from iot_core.profiles.bases import Bases, read_document
from iot_core.profiles.classes import ClassFile, read_class
from iot_core.profiles.compile import compile_profile
from iot_core.profiles.profile import Profile

__all__ = ["CLASS_FILE", "Profiles", "load", "load_file"]

CLASS_FILE = "class.yaml"


class Profiles:
    """All classes and profiles, compiled."""

    def __init__(
        self, classes: Mapping[str, ClassFile], profiles: Mapping[str, Profile], folders: Sequence[Path] = ()
    ) -> None:
        self.folders = tuple(folders)
        """Where they come from, the own folder first."""
        self._class_files = dict(classes)
        self._profiles = dict(sorted(profiles.items()))
        self.classes: Mapping[str, DeviceClass] = {
            key: each.device_class for key, each in sorted(self._class_files.items())
        }

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
    classes: dict[str, ClassFile] = {}
    profiles: dict[str, Profile] = {}
    if folder is not None and not folder.is_dir():
        raise ConfigError("profile.no_folder", folder=folder)
    with resources.as_file(resources.files("device_profiles")) as shipped:
        folders = [shipped, *([folder] if folder is not None else [])]
        bases = Bases(folders[::-1])
        for source in folders:
            _load_folder(source, bases, classes, profiles)
    return Profiles(classes, profiles, folders[::-1])


def load_file(path: Path, profiles: Profiles) -> Profile:
    """Compile one profile file. Its class is the folder that it lies in. Raises ConfigError."""
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


def _load_folder(folder: Path, bases: Bases, classes: dict[str, ClassFile], profiles: dict[str, Profile]) -> None:
    mine: dict[str, str] = {}
    for class_folder in sorted(each for each in folder.iterdir() if _holds_yaml(each)):
        if (class_folder / CLASS_FILE).is_file():
            classes[class_folder.name] = read_class(read_document(class_folder / CLASS_FILE), class_folder.name)
        class_file = classes.get(class_folder.name)
        for path in _profile_files(class_folder):
            if class_file is None:
                known = ", ".join(sorted(classes))
                raise ConfigError("profile.no_class", file=path, folder=class_folder.name, known=known)
            document = bases.document(path)
            profile = compile_profile(document, class_file)
            if profile.model in mine:
                raise document.error(("model",), f"a model that {mine[profile.model]} does not define already")
            mine[profile.model] = path.name
            profiles[profile.model] = profile


def _holds_yaml(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith((".", "_")) and any(path.glob("*.yaml"))


def _profile_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*.yaml")) if path.name != CLASS_FILE)
