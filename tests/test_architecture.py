"""The rules of the house that no linter knows, and the one that does."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from commands import COMMANDS, ROOT

MODULES = sorted((ROOT / "musician").rglob("*.py"))
LONGEST = 300
NAMES_OF_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc"}


def test_the_top_level_holds_the_commands_and_nothing_else():
    assert {path.stem for path in (ROOT / "musician").glob("*.py")} == {"__init__", *COMMANDS}


def test_the_modules_are_found():
    assert len(MODULES) > 50
    assert {ROOT / "musician" / f"{command}.py" for command in COMMANDS} <= set(MODULES)


def test_imports_run_one_way():
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_one_documented_concept(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST
    assert path.stem not in NAMES_OF_NOTHING
    assert path.parent.name not in NAMES_OF_NOTHING
    assert undocumented(ast.parse(text)) == []


def undocumented(tree, owner="module"):
    """Public modules, classes, functions and methods without a docstring."""
    missing = [] if ast.get_docstring(tree) else [owner]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if isinstance(node, ast.ClassDef):
                missing += undocumented(node, node.name)
            elif not ast.get_docstring(node) and not is_setter(node):
                missing.append(f"{owner}.{node.name}")
    return missing


def is_setter(node):
    """The getter of the same name speaks for both."""
    return any(isinstance(decorator, ast.Attribute) and decorator.attr == "setter" for decorator in node.decorator_list)


def test_the_search_for_docstrings_can_fail():
    tree = ast.parse('"""Doc."""\nclass A:\n    def f(self): ...\n    def _g(self): ...\ndef h():\n    """Doc."""\n')
    assert undocumented(tree) == ["A", "A.f"]


def test_only_the_commands_and_their_own_know_the_configuration():
    knowing = {path for path in MODULES if {"hydra", "omegaconf"} & imported(path)}
    package = ROOT / "musician"
    assert {path for path in knowing if path.parent not in (package, package / "cli")} == set()
    assert package / "train.py" in knowing


def test_music_needs_no_torch_and_benchmarks_no_lightning():
    for path in MODULES:
        if "music" in path.relative_to(ROOT).parts:
            assert not {"torch", "transformers", "pytorch_lightning"} & imported(path), path
        if "benchmarks" in path.relative_to(ROOT).parts:
            assert "pytorch_lightning" not in imported(path), path


def imported(path):
    """Top-level packages that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_nothing_is_left_to_do_in_the_code():
    assert [path for path in MODULES if {"TODO", "FIXME", "XXX"} & set(path.read_text().split())] == []
