"""The exported chat template gives the ids that were trained, or there is none."""

from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musician.data.rendering.conversation import Message
from musician.data.rendering.jinja import served_template
from musician.data.rendering.render import Renderer
from musician.data.rendering.template import TEMPLATES


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(TEMPLATES)),
    st.lists(st.tuples(st.text("aB1 |:\n{}'\"%", min_size=1), st.text("gG |\n", min_size=1)), max_size=2),
    st.text("aB ?\n", min_size=1),
)
def test_other_servers_send_the_ids_of_training(byte_tokenizer, name, exchanges, last):
    renderer = Renderer(byte_tokenizer, name)
    turns = [Message(role, text) for pair in exchanges for role, text in zip(("user", "assistant"), pair, strict=True)]
    messages = [*turns, Message("user", last)]
    found = byte_tokenizer.apply_chat_template(
        [asdict(message) for message in messages],
        chat_template=served_template(renderer),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
    )
    assert found == renderer.prompt_ids(messages)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_vocabulary_with_merges_has_one_too(smollm2_tokenizer, name):
    assert served_template(Renderer(smollm2_tokenizer, name))


def test_where_a_whole_text_has_other_ids_there_is_none(llama2_tokenizer):
    assert served_template(Renderer(llama2_tokenizer, "human_assistant")) is None
