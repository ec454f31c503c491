"""The console command `musician NAME ...`, which runs `python -m musician.NAME ...`."""

from __future__ import annotations

import ast
import pkgutil
import runpy
import sys
from pathlib import Path

import musician
from musician.runtime.errors import nearest


def main() -> None:
    """Run the command that the first word names; without one, or with `--help`, list them all."""
    names = sorted(module.name for module in pkgutil.iter_modules(musician.__path__) if not module.ispkg)
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        print("usage: musician COMMAND ...        `musician COMMAND --help` lists what it accepts\n")
        print(*(f"  {each:12} {summary(each)}" for each in names), sep="\n")
        return
    if name not in names:
        raise SystemExit(f"error: musician has no command '{name}'{nearest(name, names)}; it has {', '.join(names)}")
    del sys.argv[1]
    runpy.run_module(f"musician.{name}", run_name="__main__", alter_sys=True)


def summary(name: str) -> str:
    """Return the first sentence of a command's docstring; nothing is imported for it."""
    source = Path(musician.__path__[0], f"{name}.py").read_text(encoding="utf-8")
    text = ast.get_docstring(ast.parse(source)) or ""
    return text.splitlines()[0].partition(": `")[0]
