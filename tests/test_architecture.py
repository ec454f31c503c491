"""The rules about modules that neither ruff nor import-linter checks."""

from commands import ROOT

MODULES = sorted((ROOT / "musician").rglob("*.py"))


def test_a_module_is_short_and_named_after_one_concept():
    assert len(MODULES) > 50
    assert [path for path in MODULES if len(path.read_text().splitlines()) > 300] == []
    unspecific = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [path for path in MODULES if {path.stem, path.parent.name} & unspecific] == []


def test_nothing_is_left_to_do_in_the_code():
    assert [path for path in MODULES if {"TODO", "FIXME", "XXX"} & set(path.read_text().split())] == []
