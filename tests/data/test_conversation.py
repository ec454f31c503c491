"""Rows become documents or conversations, whichever schema they came in."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musician.data.rendering.conversation import Conversation, Document, Message, defect, read_row, strip_markup
from musician.runtime.errors import UserError

SOUND = (Message("user", "q"), Message("assistant", "a"))


def test_a_music_pile_row_is_its_text_as_it_stands():
    assert read_row({"text": " X:1\nK:C\n</s> ", "source": "irishman"}) == Document(" X:1\nK:C\n</s> ")


def test_the_text_column_can_be_named():
    assert read_row({"abc": "CDE|"}, text_field="abc") == Document("CDE|")


def test_a_music_pile_sft_row_loses_the_markup_of_its_fields_and_nothing_else():
    row = {
        "instruction": "Human: Continue the tune, and end with '</s>' if you can.",
        "input": "X:1 L:1/8 M:6/8 K:D\n|: ABA Human: </s> ",
        "output": "Assistant: FGA | B3 :| </s> ",
    }
    question = "Continue the tune, and end with '</s>' if you can.\nX:1 L:1/8 M:6/8 K:D\n|: ABA Human:"
    assert read_row(row) == Conversation((Message("user", question), Message("assistant", "FGA | B3 :|")))


@pytest.mark.parametrize("empty", [{}, {"input": None}, {"input": ""}])
def test_an_alpaca_row_needs_no_input(empty):
    row = {"instruction": "Which key?", "output": "G major", **empty}
    assert read_row(row) == Conversation((Message("user", "Which key?"), Message("assistant", "G major")))


@pytest.mark.parametrize(
    ("user", "assistant", "role", "content"),
    [
        ("user", "assistant", "role", "content"),
        ("human", "gpt", "from", "value"),
        ("Human", "Bot", "from", "value"),
        ("USER", "model", "role", "content"),
    ],
)
def test_chat_rows_are_read_under_the_names_in_use(user, assistant, role, content):
    row = {"messages": [{role: "system", content: "s"}, {role: user, content: " q "}, {role: assistant, content: "a"}]}
    assert read_row(row) == Conversation((Message("system", "s"), Message("user", " q "), Message("assistant", "a")))


def test_messages_come_before_instruction_and_instruction_before_text():
    """A column that is there but null, as Parquet has it, is not there."""
    row = {"messages": None, "instruction": "q", "output": "a", "text": "t"}
    assert read_row(row) == Conversation(SOUND)
    messages = [{"role": "user", "content": "m"}, {"role": "assistant", "content": "n"}]
    assert read_row({**row, "messages": messages}).messages[0].content == "m"
    assert read_row({"instruction": "q", "text": "t"}) == Document("t")


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("Human: hi </s> ", "hi"),
        ("Assistant: X:1\nK:C\n </s>\n", "X:1\nK:C\n"),
        ("hi", "hi"),
        ("  hi  ", "  hi  "),
        ("Human: a </s> Assistant: b </s> ", "a </s> Assistant: b"),
        ("Human: Human: twice </s></s>", "Human: twice </s>"),
        ("Humans: like music", "Humans: like music"),
        ("", ""),
    ],
)
def test_one_layer_of_markup_is_stripped(text, bare):
    assert strip_markup(text) == bare


@given(body=st.text(), name=st.sampled_from(["Human: ", "Assistant: "]))
def test_markup_around_any_text_leaves_the_text(body, name):
    """Only where the text itself begins or ends like markup is there nothing to tell them apart by."""
    if body.strip() == body and not body.startswith(("Human:", "Assistant:")) and not body.endswith("</s>"):
        assert strip_markup(f"{name}{body} </s> ") == body
        assert strip_markup(body) == body


def test_a_row_of_unknown_columns_says_which_it_has_and_what_to_set():
    with pytest.raises(UserError) as error:
        read_row({"abc notation": "x", "control code": "y"})
    message = str(error.value)
    assert "['abc notation', 'control code']" in message
    assert "data.text_field" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"text": 7}, "column 'text' must hold text, found int"),
        ({"instruction": "q", "output": ["a"]}, "column 'output' must hold text, found list"),
        ({"messages": "hi"}, "'messages' must be a list, found str"),
        ({"messages": ["hi"]}, "a message must be a mapping"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "unknown role 'tool'"),
        ({"messages": [{"content": "x"}]}, "unknown role ''"),
        ({"messages": [{"role": "user", "content": None}]}, "content must be text, found NoneType"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(row, complaint):
    with pytest.raises(UserError, match=complaint):
        read_row(row)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Document("x"), None),
        (Document(" \n"), "empty text"),
        (Conversation(SOUND), None),
        (Conversation((Message("system", ""), *SOUND, *SOUND)), None),
        (Conversation(()), "does not end with an assistant turn"),
        (Conversation((Message("system", "s"),)), "does not end with an assistant turn"),
        (Conversation(SOUND[:1]), "does not end with an assistant turn"),
        (Conversation((SOUND[0], *SOUND)), "turns do not alternate"),
        (Conversation((SOUND[1],)), "turns do not alternate"),
        (Conversation((*SOUND, Message("system", "s"), *SOUND)), "system message after the first turn"),
        (Conversation((SOUND[0], Message("assistant", " \n "))), "empty turn"),
        (Conversation((Message("user", ""), SOUND[1])), "empty turn"),
    ],
)
def test_defects(row, reason):
    assert defect(row) == reason


def test_the_rows_that_the_docs_show_are_read_as_they_say():
    page = Path(__file__).parents[2].joinpath("docs/data.md").read_text()
    document, harmonised, chat = map(json.loads, page.partition("```json\n")[2].partition("\n```")[0].splitlines())
    assert read_row(document) == Document(document["text"])
    tune = "X:1\nM:3/4\nL:1/8\nK:D\n"
    asked = Message("user", f"Harmonise this tune.\n{tune}d2f2a2|d6|]")
    assert read_row(harmonised).messages == (asked, Message("assistant", f'{tune}"D"d2f2a2|"D"d6|]'))
    assert [message.role for message in read_row(chat).messages] == ["user", "assistant"] * 2
    assert [defect(read_row(row)) for row in (document, harmonised, chat)] == [None] * 3
