"""What users naturally write on a command line, as overrides of Hydra."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from musician.cli.keys import CONF_DIR
from musician.runtime.errors import UserError

#: Hydra's options that take the next word.
_VALUED = {
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    *("--experimental-rerun",),
}

#: A value that begins with one of these is Hydra's grammar already.
_QUOTES = ("'", '"', "$")


def spell_override(argument: str, config_name: str) -> list[str]:
    """Write an argument as Hydra reads it.

    `lora=null` chooses the option `none`. `model=` accepts the same values in every command: a name of `conf/model`, a
    directory, a file, or a hub id. The commands that open a finished model set `model.path`; the others, where `model`
    is a group, choose the option that `name_or_path` completes.
    """
    key, equals, value = argument.partition("=")
    if value == "null" and (CONF_DIR / key / "none.yaml").is_file():
        return [f"{key}=none"]
    if key != "model" or not equals:
        return [argument]
    quoted = value if value[:1] in _QUOTES else quote(value)
    named = CONF_DIR / "model" / f"{value}.yaml"
    if "model" in OmegaConf.load(CONF_DIR / f"{config_name}.yaml"):
        if named.is_file() and not Path(value).exists() and "network" not in (option := OmegaConf.load(named)):
            quoted = quote(option.name_or_path)
        return [f"model.path={quoted}"]
    if (
        value[:1] in _QUOTES
        or "/" in value
        or value.startswith("package:")
        or (Path(value).exists() and not named.is_file())
    ):
        return ["model=_pretrained", f"model.name_or_path={quoted}"]
    return [argument]


def model_or_default(path: str | None, outputs: str = "outputs") -> str:
    """Return the model that a command opens: `path`, else the newest run, else a small model that needs no network.

    A model that was not named is printed to stderr.
    """
    from musician.model.checkpoint import newest_run  # imports torch

    if path is not None:
        return path
    try:
        path = str(newest_run(outputs))
    except UserError:
        path = OmegaConf.load(CONF_DIR / "model" / "smollm2_135m.yaml").name_or_path
    print(f"model: {path} (model=PATH chooses another)", file=sys.stderr)
    return path


def name_words(arguments: Sequence[str], keys: Sequence[str], command: str) -> list[str]:
    """Write plain words as `KEY='WORD'`, each for the first key that is not given yet, and leave what else there is.

    A path that exists is one even with an equals sign in it.

    Args:
        arguments: the command line.
        keys: what plain words mean, in order.
        command: for the message.

    Raises:
        SystemExit: more words than keys.
    """
    free = [key for key in keys if not any(word.startswith(f"{key}=") for word in arguments)]
    named, option = [], ""
    for word in arguments:
        key, _, value = word.partition("=")
        if key in keys and value and value[0] not in _QUOTES:
            word = f"{key}={quote(value)}"
        elif word[:1] not in ("-", "~", "+") and option not in _VALUED and ("=" not in word or Path(word).exists()):
            if not free:
                raise SystemExit(f"error: {command}: takes {' and '.join(keys)}, and '{word}' is one more")
            word = f"{free.pop(0)}={quote(word)}"
        named.append(word)
        option = word
    return named


def quote(value: str) -> str:
    """Return a value as a quoted string of Hydra's grammar: a backslash counts only before a quote or the end."""
    return "'" + re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), value) + "'"
