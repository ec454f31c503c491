"""The page's files: what is vendored is what it says, and nothing is made out of HTML or fetched from elsewhere."""

import hashlib
import re
from pathlib import Path

import pytest

STATIC = Path(__file__).resolve().parents[2] / "musician" / "web" / "static"
OWN = sorted(path for path in STATIC.iterdir() if path.suffix in (".js", ".css", ".html"))


def test_abcjs_is_the_one_its_readme_names_and_has_its_licence():
    readme = (STATIC / "vendor" / "README.md").read_text()
    (script,) = (STATIC / "vendor").glob("*.js")
    assert script.name in readme
    assert hashlib.sha256(script.read_bytes()).hexdigest() in readme
    assert "Permission is hereby granted, free of charge" in readme
    assert script.read_text().startswith("/*! abcjs_basic v6.7.2 ")
    assert f"/static/vendor/{script.name}" in (STATIC / "index.html").read_text()


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_own_files_make_no_html_and_name_no_other_server(path):
    text = path.read_text()
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|javascript:"
    assert re.findall(forbidden, text) == []
    assert set(re.findall(r"https?://[^\s\"')]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert len(text.splitlines()) < 300


def test_no_inline_script_style_or_handler():
    page = (STATIC / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", page) == []


def test_every_id_that_a_module_asks_for_is_in_the_page():
    page = set(re.findall(r'id="([\w-]+)"', (STATIC / "index.html").read_text()))
    scripts = "".join(path.read_text() for path in OWN if path.suffix == ".js")
    asked = set(re.findall(r'byId\("([\w-]+)"\)', scripts))
    assert asked - page == set()
    assert len(asked) > 40
