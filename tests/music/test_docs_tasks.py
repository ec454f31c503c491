"""docs/tasks.md shows rows as the builder makes them; `python tests/music/test_docs_tasks.py` prints them anew."""

import json
from pathlib import Path

from musician.data.sources.instructions import row, theory_tasks
from musician.music.abc.reader import parse_tune
from musician.music.tasks.checks import check, check_conversation
from musician.music.tasks.conversation import make_conversation
from musician.music.tasks.rules import RULES, make_tasks
from musician.music.tasks.written import tidy

PLAIN = """X:1
T:The Two Commands
C:made for these pages
R:reel
M:4/4
L:1/8
K:G
|:G2BG dGBG|A2cA eAcA|G2BG dGBd|gfed c2A2:|
|:G2BG dGBG|A2cA f2ef|G2BG dGBd|gedB A2G2:|"""
CHORDS = """X:1
T:Four Bars
M:3/4
L:1/8
K:D
"D"d2f2a2|"G"b2g2e2|"A7"a2g2e2|"D"d6|]"""
SEED = 1


def shown(text: str) -> str:
    """A text in which the whole tune is named, not written out."""
    for name, tune in (("TUNE", PLAIN), ("CHORDS", CHORDS)):
        text = text.replace(tidy(parse_tune(tune)), f"<{name}>")
    return text


def documented() -> list[str]:
    """The blocks of the page: tunes, two rows as they are written, a row of each kind, a conversation, theory."""
    tasks = {task.name: task for tune in (CHORDS, PLAIN) for task in make_tasks(tune, SEED)}
    tasks["transposed"] = next(task for task in make_tasks(PLAIN, SEED) if task.name == "transposed")
    assert list(filter(check, tasks.values())) == []
    talk = make_conversation(PLAIN, SEED)
    assert check_conversation(talk) is None
    key = tasks["key_of_tune"]
    as_row = [row(schema, key.name, [(key.prompt, key.answer)], "2f…") for schema in ("musicpile_sft", "messages")]
    return [
        PLAIN,
        CHORDS,
        *(json.dumps(each, ensure_ascii=False) for each in as_row),
        *(f"{shown(tasks[name].prompt)}\n--\n{shown(tasks[name].answer)}" for name in RULES),
        "\n".join(f"user: {shown(turn.prompt)}\nassistant: {shown(turn.answer)}" for turn in talk),
        "\n".join(f"{task.prompt}\n--\n{task.answer}" for task, _ in zip(theory_tasks(0, 40), range(3), strict=False)),
    ]


def test_the_page_shows_what_is_made() -> None:
    page = Path(__file__).parents[2].joinpath("docs/tasks.md").read_text()
    assert [block for block in documented() if f"```\n{block}\n```" not in page] == []
    assert [name for name in RULES if f"**`{name}`**" not in page] == []


if __name__ == "__main__":
    print(*(f"```\n{block}\n```\n" for block in documented()), sep="\n")
