"""Which keys a configuration may have, and of what kind their values are."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from musician.runtime.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]

#: In a checkout conf/ sits beside the package; in a wheel it is inside it.
CONF_DIR = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir())

#: Keys of a node that Hydra reads itself.
_SPECIAL = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


def check_keys(cfg: DictConfig, primary: str) -> None:
    """Refuse a key that nothing would read, wherever it was written, experiment files included.

    A node may have the keys that any option of conf/ has in its place, and one with a `_target_` the target's
    arguments.

    Raises:
        UserError: naming the key and the nearest right one.
    """
    _check_node(OmegaConf.to_container(cfg, resolve=False), "", _schemas(primary))  # type: ignore[arg-type]


def _check_node(node: Mapping[str, Any], path: str, schemas: Sequence[Any]) -> None:
    schemas = [schema for schema in schemas if isinstance(schema, Mapping)]
    known = {str(key) for schema in schemas for key in schema}
    if "_target_" in node:
        known |= _SPECIAL
        if not {str(key) for key in node} <= known:  # importing a target may take seconds
            known |= _parameters(str(node["_target_"]), path)
    for key, value in ((str(key), value) for key, value in node.items()):
        place = f"{path}.{key}" if path else key
        own = isinstance(value, Mapping) and "_target_" in value and path and "." not in path  # an option of the user's
        if known and key not in known and not own:
            names = sorted(name for name in known if not name.startswith("_"))
            raise UserError(f"config: there is no key '{place}'{nearest(key, names)}; it has {names}")
        examples = [schema[key] for schema in schemas if key in schema]
        numeric = any(isinstance(example, int | float) and not isinstance(example, bool) for example in examples)
        if numeric and isinstance(value, str) and "${" not in value and value != "???":
            raise UserError(f"config: {place} must be a number, not '{value}'")
        if isinstance(value, Mapping):
            _check_node(value, place, examples)


def _parameters(target: str, path: str) -> set[str]:
    """Return the names that a target accepts; `**kwargs` counts for nothing, so that a typo cannot hide in it."""
    try:
        signature = inspect.signature(get_object(target))
    except (ImportError, ValueError, AttributeError) as error:
        raise UserError(f"config: {path}._target_={target} cannot be imported ({error})") from error
    return {name for name, parameter in signature.parameters.items() if parameter.kind is not parameter.VAR_KEYWORD}


@cache
def _schemas(primary: str) -> list[dict[str, Any]]:
    """Return the trees that a config of this primary file may be made of, each from the root."""
    root: Any = OmegaConf.to_container(OmegaConf.load(CONF_DIR / f"{primary}.yaml"), resolve=False)
    found = [root]
    for item in root.pop("defaults", []):
        if isinstance(item, dict):
            found += [option for group in item for option in _options(str(group)) if (CONF_DIR / group).is_dir()]
        elif item != "_self_":
            found += _schemas(item)
    return found


def _options(group: str) -> Iterator[dict[str, Any]]:
    """Yield the content of each option of a group, nested as its `@package` says."""
    yield {group: {}}
    for file in sorted((CONF_DIR / group).glob("*.yaml")):
        content: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        if isinstance(content, dict):
            content.pop("defaults", None)
        header = file.read_text().lstrip()
        package = header.split("@package", 1)[1].split()[0] if header.startswith("# @package") else group
        for name in reversed(package.split(".")):
            content = {name: content}
        yield content
