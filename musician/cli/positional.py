"""Plain words on a command's command line, for commands whose first arguments are obvious."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from musician.cli.entry import quote

#: Hydra's options that take the next word.
_VALUED = {
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    *("--experimental-rerun",),
}


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
        if key in keys and value and value[0] not in "'\"$":
            word = f"{key}={quote(value)}"
        elif word[:1] not in ("-", "~", "+") and option not in _VALUED and ("=" not in word or Path(word).exists()):
            if not free:
                raise SystemExit(f"error: {command}: takes {' and '.join(keys)}, and '{word}' is one more")
            word = f"{free.pop(0)}={quote(word)}"
        named.append(word)
        option = word
    return named
