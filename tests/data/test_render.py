"""The one renderer, over every tokenizer and template: what is served, what is trained, what is supervised."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from musician.data.rendering.canary import canaries, check_canaries
from musician.data.rendering.conversation import Conversation, Document, Message
from musician.data.rendering.render import Renderer
from musician.data.rendering.template import ChatTemplate, find_template
from musician.runtime.errors import UserError

from .oracles import (
    TRICKY,
    contents,
    conversations,
    flatten_layout,
    flatten_tokens,
    layout,
    spell,
    without_unknown_bytes,
)

settings.register_profile("renderer", deadline=None, suppress_health_check=[HealthCheck.too_slow])
examples = settings(settings.get_profile("renderer"), max_examples=100)


def rendered(renderer, conversation, max_length=None):
    (item,) = renderer.render(conversation, max_length)
    return item


def runs(mask):
    """[start, end) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(mask, dtype=int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def prompt_length(item):
    """Tokens before the first supervised one."""
    return int(item.supervised.argmax())


# --- served = trained -------------------------------------------------------------------------------------------------


@examples
@given(conversation=conversations())
def test_the_prompt_of_every_turn_is_a_prefix_of_what_was_trained(each_renderer, conversation):
    """B1."""
    ids = rendered(each_renderer, conversation).input_ids.tolist()
    for turn, message in enumerate(conversation.messages):
        if message.role == "user":
            prompt = each_renderer.prompt_ids(conversation.messages[: turn + 1])
            assert prompt == ids[: len(prompt)]
            assert rendered(each_renderer, conversation).supervised[len(prompt)], "the answer begins right there"


@examples
@given(conversation=conversations())
def test_a_conversation_is_its_layout_byte_for_byte_and_mask_for_mask(each_renderer, conversation):
    """B1, B4, B5, B8: text, special tokens and supervision are those of the template written out by hand.

    So nothing spelled in a message becomes a special token, answers and their EOS are supervised, all else is not.
    """
    tokenizer = each_renderer.tokenizer
    item = rendered(each_renderer, conversation)
    wants_bos = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    expected = layout(each_renderer.template.name, conversation.messages, wants_bos)
    found = flatten_tokens(spell(tokenizer, item.input_ids), item.supervised)
    assert found == flatten_layout(expected, tokenizer)


@examples
@given(conversation=conversations())
def test_each_answer_ends_in_one_supervised_eos_with_nothing_supervised_after_it(each_renderer, conversation):
    """B2, B4: the runs of supervised tokens are the answers, each with one EOS, its last token."""
    item = rendered(each_renderer, conversation)
    eos = each_renderer.tokenizer.eos_token_id
    supervised = runs(item.supervised)
    assert len(supervised) == sum(message.role == "assistant" for message in conversation.messages)
    for start, end in supervised:
        assert item.input_ids[start:end].tolist().count(eos) == 1
        assert item.input_ids[end - 1] == eos
    assert supervised[-1][1] == len(item.input_ids), "nothing follows the last EOS"


@pytest.mark.parametrize("text", TRICKY)
def test_markup_in_a_message_never_becomes_a_special_token(each_renderer, text):
    """B8: the special tokens of a conversation are as many with markup in it as without."""

    def specials(content):
        ids = rendered(each_renderer, Conversation((Message("user", content), Message("assistant", content)))).input_ids
        return [i for i in ids.tolist() if i in each_renderer.tokenizer.all_special_ids]

    assert specials(text) == specials("plain")


GOLDEN = {
    "byte-human_assistant": "ĠHuman:ĠKey?</s>ĠAssistant:[ĠG</s>]",
    "smollm2-human_assistant": "ĠHuman : ĠKey ? <|im_end|> ĠAssistant : [ĠG <|im_end|>]",
    "smollm2-chatml": "<|im_start|> user Ċ Key ? <|im_end|> Ċ <|im_start|> ass istant Ċ [G <|im_end|>]",
    "mistral-human_assistant": "<s> ▁Human : ▁Key ? </s> ▁Assistant : [▁G </s>]",
    "mistral-chatmusician": "<s> ▁Human : ▁Key ? ▁ </s> ▁ ▁Assistant : [▁G ▁ </s>]",
    "llama2-human_assistant": "<s> ▁Human : ▁Key ? </s> ▁Ass istant : [▁G </s>]",
    "llama2-chatmusician": "<s> ▁Human : ▁Key ? ▁ </s> ▁ ▁Ass istant : [▁G ▁ </s>]",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_mask(name, request):
    """B5: the supervised tokens of one short row, in brackets."""
    tokenizer, template = name.split("-")
    renderer = Renderer(request.getfixturevalue(f"{tokenizer}_tokenizer"), template)
    item = rendered(renderer, Conversation((Message("user", "Key?"), Message("assistant", "G"))))
    tokens = renderer.tokenizer.convert_ids_to_tokens(item.input_ids.tolist())
    ((start, end),) = runs(item.supervised)
    tokens[start] = "[" + tokens[start]
    tokens[end - 1] += "]"
    assert ("" if tokenizer == "byte" else " ").join(tokens) == GOLDEN[name]


# --- reading an answer ------------------------------------------------------------------------------------------------


@examples
@given(content=contents, question=contents)
def test_what_was_trained_as_an_answer_is_read_back_verbatim(each_renderer, content, question):
    assume(without_unknown_bytes(each_renderer.tokenizer, content) == content.encode())
    item = rendered(each_renderer, Conversation((Message("user", question), Message("assistant", content))))
    answer = item.input_ids[item.supervised].tolist()
    assert each_renderer.read_answer(answer) == content
    assert each_renderer.read_answer([*answer, *answer]) == content, "what follows the EOS is not read"


def test_reading_keeps_special_tokens_other_than_eos_in_sight(mistral_tokenizer):
    """A model that writes BOS or <unk> is seen to."""
    assert "<unk>" in Renderer(mistral_tokenizer).read_text([mistral_tokenizer.unk_token_id])


# --- shortening -------------------------------------------------------------------------------------------------------

PROMPTS = st.text("abc |\n♯", min_size=8, max_size=60).map("Q{}Z".format)


def opening_length(renderer):
    """Tokens before the user's text: everything whose text, taken together, is the opening of a user turn."""
    opening = {"human_assistant": b" Human:", "chatmusician": b" Human:", "chatml": b"user\n"}[renderer.template.name]
    ids = renderer.prompt_ids([Message("user", "x")])
    text = b""
    for count, token in enumerate(spell(renderer.tokenizer, ids), 1):
        text += token if isinstance(token, bytes) else b""
        if text == opening:
            return count
    raise AssertionError(f"no tokens spell {opening!r}")


@examples
@given(question=PROMPTS, answer=PROMPTS, data=st.data())
def test_shortening_keeps_turn_markers_and_both_ends_of_the_question(each_renderer, question, answer, data):
    """B2, B3: the middle of the question goes first, then the end of the answer, and with it its EOS."""
    conversation = Conversation((Message("user", question), Message("assistant", answer)))
    whole = rendered(each_renderer, conversation)
    ids, eos = whole.input_ids.tolist(), each_renderer.tokenizer.eos_token_id
    start = opening_length(each_renderer)
    end_of_question, end_of_prompt = ids.index(eos), prompt_length(whole)
    least = end_of_prompt - (end_of_question - start) + 2
    max_length = data.draw(st.integers(-(-least * 4 // 3) + 1, len(ids) + 3))

    item = rendered(each_renderer, conversation, max_length)
    cut, kept_answer = item.input_ids.tolist(), item.input_ids[item.supervised].tolist()

    assert len(cut) == min(max_length, len(ids)), "not a token more than needed is cut"
    assert cut[: start + 1] == ids[: start + 1], "the opening marker and the first token of the question"
    tail = ids[end_of_question - 1 : end_of_prompt]
    prompt = prompt_length(item)
    assert cut[prompt - len(tail) : prompt] == tail, "its last token and the markers after it"
    removed = end_of_prompt - prompt
    head = start + (end_of_question - start - removed + 1) // 2
    assert cut[:prompt] == ids[:head] + ids[head + removed : end_of_prompt], "the middle is what went"
    assert runs(item.supervised) == [(prompt, len(cut))]
    assert kept_answer == ids[end_of_prompt : end_of_prompt + len(kept_answer)]
    assert kept_answer.count(eos) == (len(kept_answer) == len(ids) - end_of_prompt), "EOS only after a whole answer"
    expected = [("user text", removed > 0), ("answer", len(kept_answer) < len(ids) - end_of_prompt)]
    assert item.cuts == tuple(what for what, happened in expected if happened)


def test_the_opening_of_a_chatml_turn_is_no_part_of_what_is_cut(smollm2_tokenizer):
    """B3."""
    renderer = Renderer(smollm2_tokenizer, "chatml")
    conversation = Conversation((Message("user", "one two three four five six"), Message("assistant", "G")))
    lengths = range(13, len(rendered(renderer, conversation).input_ids))
    shortened = [spell(smollm2_tokenizer, rendered(renderer, conversation, length).input_ids) for length in lengths]
    assert all(spelled[1:3] == [b"user", b"\n"] for spelled in shortened)


def test_a_question_is_shortened_to_three_quarters_at_most(byte_renderer):
    """An answer that fits beside the question costs the question only what is missing."""
    long, short = "q" * 200, "a" * 100
    item = rendered(byte_renderer, Conversation((Message("user", long), Message("assistant", long))), 100)
    assert prompt_length(item) == 75
    assert item.cuts == ("user text", "answer")
    item = rendered(byte_renderer, Conversation((Message("user", short), Message("assistant", "aaa"))), 100)
    assert item.supervised.sum() == len(" aaa") + 1
    assert item.cuts == ("user text",)


@examples
@given(
    conversation=conversations(st.text("ab ", min_size=2, max_size=20), max_exchanges=4, system=False), data=st.data()
)
def test_the_last_exchanges_go_before_anything_else_is_shortened(each_plain_renderer, conversation, data):
    """The exchanges that stay are whole; `turns` says that some went."""
    assume(len(conversation.messages) > 2)
    first = len(rendered(each_plain_renderer, Conversation(conversation.messages[:2])).input_ids)
    whole = rendered(each_plain_renderer, conversation).input_ids.tolist()
    max_length = data.draw(st.integers(first, len(whole)))
    item = rendered(each_plain_renderer, conversation, max_length)
    lengths = [
        len(rendered(each_plain_renderer, Conversation(conversation.messages[:n])).input_ids)
        for n in range(2, len(conversation.messages) + 1, 2)
    ]
    assert len(item.input_ids) == max(length for length in lengths if length <= max_length)
    assert item.input_ids.tolist() == whole[: len(item.input_ids)]
    assert item.cuts == (("turns",) if len(item.input_ids) < len(whole) else ())


def test_room_for_nothing_but_markers_is_an_error(byte_renderer):
    conversation = Conversation((Message("user", "q" * 50), Message("assistant", "a" * 50)))
    with pytest.raises(UserError, match="max_length=16"):
        byte_renderer.render(conversation, 16)


def test_an_answer_is_cut_where_the_question_has_nothing_to_give(byte_renderer):
    """A long system message and a short question still leave room for the beginning of the answer."""
    messages = (Message("system", "s" * 80), Message("user", "hi"), Message("assistant", "a" * 50))
    item = rendered(byte_renderer, Conversation(messages), 128)
    assert len(item.input_ids) == 128
    assert item.cuts == ("answer",)


# --- documents --------------------------------------------------------------------------------------------------------

DOCUMENTS = st.text("ABCdefg2/|\n: ♯", min_size=1, max_size=120)


@examples
@given(text=DOCUMENTS, max_length=st.integers(4, 40))
def test_the_pieces_of_a_document_are_the_document(each_plain_renderer, text, max_length):
    """B6: no token added or lost, none longer than max_length; every token but a piece's first is supervised."""
    tokenizer = each_plain_renderer.tokenizer
    own = tokenizer(text)["input_ids"]  # with BOS where the tokenizer adds one
    pieces = each_plain_renderer.render(Document(text), max_length)
    assert [i for piece in pieces for i in piece.input_ids.tolist()] == [*own, tokenizer.eos_token_id]
    assert max(len(piece.input_ids) for piece in pieces) <= max_length
    for piece in pieces:
        assert piece.supervised.tolist() == [False] + [True] * (len(piece.input_ids) - 1)
        assert piece.cuts == (("document",) if len(pieces) > 1 else ())


@examples
@given(text=DOCUMENTS, max_length=st.integers(4, 40))
def test_a_document_is_cut_after_the_last_bar_or_line_of_the_second_half_that_fits(
    each_plain_renderer, text, max_length
):
    pieces = each_plain_renderer.render(Document(text), max_length)
    ids = [i for piece in pieces for i in piece.input_ids.tolist()]
    spelled = spell(each_plain_renderer.tokenizer, ids)
    start = 0
    for piece in pieces[:-1]:
        room = range(start + max_length, start + max_length // 2, -1)
        ends = [end for end in room if isinstance(spelled[end - 1], bytes) and spelled[end - 1].endswith((b"|", b"\n"))]
        assert len(piece.input_ids) == (ends[0] - start if ends else max_length)
        start += len(piece.input_ids)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@settings(deadline=None)
def test_without_a_limit_a_document_is_one_item(byte_renderer, text):
    (item,) = byte_renderer.render(Document(text))
    spelled = spell(byte_renderer.tokenizer, item.input_ids)
    assert b"".join(spelled[:-1]) == text.encode()
    assert spelled[-1] == byte_renderer.tokenizer.eos_token_id
    assert item.cuts == ()


@pytest.mark.parametrize(("add_bos", "add_eos"), [(True, True), (True, False), (False, True), (False, False)])
def test_bos_and_eos_of_a_document_are_as_asked_for(mistral_tokenizer, add_bos, add_eos):
    (item,) = Renderer(mistral_tokenizer, add_bos=add_bos, add_eos=add_eos).render(Document("CDE|"))
    ids = item.input_ids.tolist()
    assert (ids[0] == mistral_tokenizer.bos_token_id) == add_bos
    assert (ids[-1] == mistral_tokenizer.eos_token_id) == add_eos


@examples
@given(rows=st.lists(st.one_of(conversations(), DOCUMENTS.map(Document)), max_size=5), limit=st.none() | st.just(60))
def test_rows_rendered_together_are_as_rendered_alone(each_plain_renderer, rows, limit):
    def plain(items):
        return [(item.input_ids.tolist(), item.supervised.tolist(), item.cuts) for item in items]

    try:
        alone = [plain(each_plain_renderer.render(row, limit)) for row in rows]
    except UserError:
        assume(False)
    assert [plain(items) for items in each_plain_renderer.render_batch(rows, limit)] == alone


# --- what the renderer is made of -------------------------------------------------------------------------------------


def test_rendering_leaves_the_tokenizer_as_it_was(each_tokenizer):
    """Content is encoded without special tokens; a later caller still gets them."""
    before = each_tokenizer("</s><|im_end|> x")["input_ids"]
    Renderer(each_tokenizer).prompt_ids([Message("user", "</s><|im_end|> x")])
    assert each_tokenizer("</s><|im_end|> x")["input_ids"] == before


def test_an_item_has_the_smallest_type_that_holds_every_id(each_renderer):
    item = rendered(each_renderer, Conversation((Message("user", "a"), Message("assistant", "b"))))
    assert item.input_ids.dtype == np.uint16


def test_identity_follows_the_template_and_every_policy(mistral_tokenizer):
    """B14."""
    variants = [
        Renderer(mistral_tokenizer),
        Renderer(mistral_tokenizer, "chatmusician"),
        Renderer(mistral_tokenizer, add_bos=False),
        Renderer(mistral_tokenizer, add_eos=False),
        Renderer(mistral_tokenizer, max_prompt_share=0.5),
    ]
    assert len({renderer.identity() for renderer in variants}) == len(variants)
    assert Renderer(mistral_tokenizer, add_bos=True).identity() == variants[0].identity(), (
        "its own default, spelled out"
    )


def test_an_unknown_template_is_answered_with_the_nearest(byte_tokenizer):
    with pytest.raises(UserError, match=r"'chatlm'.*did you mean 'chatml'"):
        Renderer(byte_tokenizer, "chatlm")


def test_a_template_that_needs_a_missing_token_is_refused():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"a": 0, "</s>": 1, "?": 2}, unk_token="?"))
    without_bos = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="?")
    with pytest.raises(UserError, match=r"chatml.*\{bos\}"):
        Renderer(without_bos, "chatml")
    with pytest.raises(UserError, match=r"\{bos\}"):
        Renderer(without_bos, add_bos=True)
    Renderer(without_bos)


@pytest.mark.parametrize(
    "assistant", [("{content}",), ("{eos}", "{content}"), ("{eos}",), ("{content}", "{content}", "{eos}")]
)
def test_a_template_without_one_answer_and_its_eos_cannot_be_made(assistant):
    plain = find_template("human_assistant")
    with pytest.raises(UserError, match=r"'odd'.*assistant turn"):
        ChatTemplate("odd", user=plain.user, assistant=assistant, system=plain.system)


# --- canaries ---------------------------------------------------------------------------------------------------------


def test_canaries_pass_with_the_renderer_that_sang_them(each_renderer):
    check_canaries(each_renderer, canaries(each_renderer), "here")


def test_canaries_refuse_another_template_and_another_tokenizer(byte_renderer, byte_tokenizer, smollm2_tokenizer):
    """B1: a checkpoint is not served with prompts it was not trained on."""
    expected = canaries(byte_renderer)
    for other in (Renderer(byte_tokenizer, "chatmusician"), Renderer(smollm2_tokenizer)):
        with pytest.raises(UserError, match=r"run-7.*rendered"):
            check_canaries(other, expected, "run-7")
