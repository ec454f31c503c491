"""Configurations: which keys exist, of what kind their values are, and what to say where they do not fit."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from musician.runtime.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]

#: Keys of a node that Hydra reads itself.
_SPECIAL = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}

#: In a checkout conf/ sits beside the package; in a wheel it is inside it.
CONF_DIR = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir())


def one_line(error: BaseException) -> str:
    """The message of an error, with the nearest right key or option where one is missing.

    An error raised while Hydra instantiates a node arrives wrapped; the user's error inside speaks.
    """
    inner = error
    while inner.__cause__ is not None and not isinstance(inner, UserError):
        inner = inner.__cause__
    if isinstance(inner, UserError):
        return str(inner)
    if isinstance(inner, MissingMandatoryValue):
        return f"config: {inner.full_key or inner.key} must be given"
    text = " ".join(part.strip() for part in str(error).splitlines() if part.strip())
    parent: Any = getattr(inner, "parent_node", None)
    if isinstance(inner, OmegaConfBaseException) and OmegaConf.is_dict(parent):
        key = str(inner.key)
        path = inner.full_key or key
        names = sorted(str(name) for name in parent if not str(name).startswith("_"))
        return f"config: there is no key '{path}'{nearest(key, names)}; it has {names}"
    return _about_an_option(text) or text


def _about_an_option(text: str) -> str | None:
    """What to say of an option that does not exist, from Hydra's message."""
    found = re.search(r"Could not (?:find|load) '([^']+)/([^'/]+)'", text)
    if found is None:
        return None
    group, option = found.groups()
    options = sorted(file.stem for file in (CONF_DIR / group).glob("[!_]*.yaml"))
    return f"config: {group} has no option '{option}'{nearest(option, options)}; it has {options}" if options else None


def check_keys(cfg: DictConfig, primary: str) -> None:
    """Refuse a key that nothing would read, wherever it was written, experiment files included.

    A node with a `_target_` may have the target's arguments; any other node what its options in conf/ have.

    Raises:
        UserError: naming the key and the nearest right one.
    """
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    root, groups = _primary(primary)
    allowed = {str(name) for name in root} | groups
    for key, value in plain.items():
        if key not in allowed:
            raise UserError(f"config: there is no key '{key!s}'{nearest(str(key), allowed)}; it has {sorted(allowed)}")
        schemas = _options(str(key)) if key in groups else [root[key]]
        _check_kind(value, str(key), schemas)
        if isinstance(value, Mapping):
            _check_node(value, str(key), schemas)


def _primary(name: str) -> tuple[dict[Any, Any], set[str]]:
    """Keys and groups of a primary config and of those it builds upon."""
    root = OmegaConf.to_container(OmegaConf.load(CONF_DIR / f"{name}.yaml"), resolve=False)
    assert isinstance(root, dict)
    defaults = root.pop("defaults", [])
    groups = {str(group) for item in defaults if isinstance(item, dict) for group in item}
    for below in (item for item in defaults if isinstance(item, str) and item != "_self_"):
        keys, more = _primary(below)
        root, groups = {**keys, **root}, groups | more
    return root, groups


def _check_node(node: Mapping[Any, Any], path: str, schemas: list[Any]) -> None:
    schemas = [schema for schema in schemas if isinstance(schema, Mapping)]
    known = {str(key) for schema in schemas for key in schema}
    target = node.get("_target_")
    if target is not None:
        # Importing a target takes up to seconds; keys that conf/ itself has for it are right, as a test binds them.
        known = _SPECIAL | {str(key) for schema in schemas if schema.get("_target_") == target for key in schema}
        if not {str(key) for key in node} <= known:
            known |= _parameters(str(target), path)
    for key, value in node.items():
        own = isinstance(value, Mapping) and "_target_" in value and "." not in path  # from the user's own conf/
        if known and str(key) not in known and not own:
            names = sorted(name for name in known if not name.startswith("_"))
            raise UserError(f"config: there is no key '{path}.{key}'{nearest(str(key), names)}; it has {names}")
        _check_kind(value, f"{path}.{key}", [schema.get(key) for schema in schemas])
        if isinstance(value, Mapping):
            _check_node(value, f"{path}.{key}", [schema.get(key) for schema in schemas])


def _check_kind(value: Any, path: str, examples: list[Any]) -> None:
    """Refuse text where the options of conf/ have a number."""
    numeric = any(isinstance(example, int | float) and not isinstance(example, bool) for example in examples)
    if numeric and isinstance(value, str) and "${" not in value and value != "???":
        raise UserError(f"config: {path} must be a number, not '{value}'")


def _parameters(target: str, path: str) -> set[str]:
    """Names a target accepts; `**kwargs` counts for nothing, so that a typo cannot hide in it."""
    try:
        signature = inspect.signature(get_object(target))
    except (ImportError, ValueError, AttributeError) as error:
        raise UserError(f"config: {path}._target_={target} cannot be imported ({error})") from error
    return {name for name, parameter in signature.parameters.items() if parameter.kind is not parameter.VAR_KEYWORD}


@lru_cache
def _options(group: str) -> list[Any]:
    """The content of every option of a group; options that go to `group.NAME` are nested so."""
    return list(_read_options(CONF_DIR / group, group))


def _read_options(folder: Path, group: str) -> Iterator[Any]:
    for file in sorted(folder.glob("*.yaml")):
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        if isinstance(content, dict):
            target = _target(file)
            content = {**({"_target_": target} if target else {}), **content}
            content.pop("defaults", None)
        header = file.read_text().lstrip()
        package = header.split("@package", 1)[1].split()[0] if header.startswith("# @package") else group
        for name in reversed(package.split(".")[1:]):
            content = {name: content}
        yield content


def _target(file: Path) -> str | None:
    """The `_target_` of an option: its own, or that of the options of its group that it builds upon."""
    content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    if not isinstance(content, dict) or "_target_" in content:
        return content.get("_target_") if isinstance(content, dict) else None
    bases = [file.parent / f"{base}.yaml" for base in content.get("defaults", []) if isinstance(base, str)]
    return next(filter(None, (_target(base) for base in bases if base.is_file())), None)
