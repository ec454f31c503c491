"""The README is true: its tree names every package, its commands compose."""

import re
import shlex

import pytest
from commands import COMMANDS, ROOT, assert_ran, call, one_job

README = (ROOT / "README.md").read_text()

#: A word in capitals, three dots or angle brackets stand for what the reader has.
PLACEHOLDER = re.compile(r"(?<![\w.])(?!X:)[A-Z][A-Z_]+(?![\w:])|\.\.\.|…|<[^>]+>")


def invocations(text):
    """Command and arguments of each `python -m musician.X ...` in the code blocks, continued lines joined."""
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.search(r"python -m musician\.(\w+)(.*)", line)
            if found and not PLACEHOLDER.search(found[2].partition("#")[0]):
                yield found[1], shlex.split(found[2], comments=True)


INVOCATIONS = list(invocations(README))


def test_the_tree_names_every_package_and_every_command():
    tree = re.search(r"^## The tree\n+```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)[1]
    packages = [path.parent for path in (ROOT / "musician").rglob("__init__.py")]
    assert len(packages) > 5
    assert [str(path.relative_to(ROOT)) for path in packages if f"{path.name}/" not in tree] == []
    assert [command for command in COMMANDS if command not in tree.split()] == []


def test_the_readme_shows_commands():
    assert len(INVOCATIONS) >= 3
    assert "make demo" in README
    assert "make test" in README


@pytest.mark.parametrize(("command", "arguments"), INVOCATIONS, ids=[" ".join([d, *a]) for d, a in INVOCATIONS])
def test_a_command_of_the_readme_composes(tmp_path, command, arguments):
    assert command in COMMANDS
    if "--help" in arguments:
        assert_ran(call(command, *arguments, cwd=tmp_path))
        return
    outcome = call(command, *one_job(arguments), "--cfg", "job", cwd=tmp_path)
    assert_ran(outcome)
    assert outcome.stdout


def test_the_search_for_commands_finds_what_it_should():
    text = """
```bash
python -m musician.train +experiment=x \\
  lora.r=2  # as DIR
.venv/bin/python -m musician.eval model=DIR
```
python -m musician.merge model=a
"""
    assert list(invocations(text)) == [("train", ["+experiment=x", "lora.r=2"])]


def test_every_link_of_the_readme_leads_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", README) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []
