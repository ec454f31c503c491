import pytest

from musician.benchmarks.multiple_choice.encoding import ChatFormat, Encoder
from musician.benchmarks.multiple_choice.likelihood import Likelihood
from musician.data.rendering.conversation import Conversation, Message
from musician.data.rendering.render import Renderer
from musician.data.rendering.template import TEMPLATES
from musician.data.rendering.tokenizer import load_tokenizer
from musician.runtime.errors import UserError

from .toys import Quiz, byte_tokenizer, opened, tiny_llama

PROMPT = "Which?\nA. one\nB. two\nAnswer:"


def within(encoder, prompt):
    """The prompt, cut to the encoder's window."""
    return encoder.cut(encoder.encode(prompt))


@pytest.fixture(params=sorted(TEMPLATES))
def renderer(request):
    return Renderer(byte_tokenizer(), request.param)


def test_the_four_versions_are_what_training_would_have_seen(renderer):
    encoded = Encoder(ChatFormat(renderer), 200).encode(PROMPT)
    asked = renderer.prompt_ids([Message("user", PROMPT)])
    assert encoded.differs_in_one_id
    for tail, letter in zip(encoded.tails, "ABCD", strict=True):
        version = [*encoded.prefix.tolist(), *tail]
        (trained,) = renderer.render(Conversation((Message("user", PROMPT), Message("assistant", letter))))
        assert version == trained.input_ids[: len(version)].tolist()
        assert renderer.read_text(version[len(asked) :]).strip() == letter


def test_a_long_prompt_loses_the_start_of_the_user_s_text_alone(renderer):
    full = Encoder(ChatFormat(renderer), 10_000)
    text = "long " * 100 + PROMPT
    encoded = within(Encoder(ChatFormat(renderer), 90), text)
    whole = full.encode(text).prefix.tolist()
    kept = encoded.prefix.tolist()
    opening = full.format.opening
    assert (encoded.truncated, encoded.num_tokens, encoded.tails) == (True, 90, full.encode(text).tails)
    assert kept[:opening] == whole[:opening]
    assert kept[opening:] == whole[len(whole) - len(kept) + opening :]
    with pytest.raises(UserError, match="leaves no room"):
        within(Encoder(ChatFormat(renderer), 12), text)


def test_examples_are_dropped_until_the_conversation_fits(renderer):
    quiz = Quiz(["stem"], [0], num_fewshot=5)
    question = quiz.questions()[0]
    size = Encoder(ChatFormat(renderer), 1000).encode(quiz.prompt(question, 2)).num_tokens
    encoded = Encoder(ChatFormat(renderer), size).fit(quiz, question)
    assert (encoded.shots, encoded.truncated, encoded.num_tokens) == (2, False, size)
    assert encoded.text == quiz.prompt(question, 2)


def test_a_tokenizer_that_merges_the_letter_breaks_the_premise():
    renderer = Renderer(byte_tokenizer(merges=[("Ġ", "B")]))
    encoded = Encoder(ChatFormat(renderer), 200).encode(PROMPT)
    assert [len(tail) for tail in encoded.tails] == [2, 1, 2, 2]
    assert not encoded.differs_in_one_id


def test_the_benchmark_chooses_the_format():
    model, scorer = opened(tiny_llama(), byte_tokenizer()), Likelihood(emulate_opencompass=True)
    plain, chat = scorer.encoder(model), scorer.encoder(model, chat=True)
    assert (plain.keep_answer, plain.format.bos, plain.format.opening) == (False, "<s>", 1)
    assert (chat.keep_answer, chat.format.bos) == (True, "<s>")
    assert ChatFormat(Renderer(byte_tokenizer(), add_bos=False)).bos == ""


def test_real_llama_tokenizer_gives_each_letter_one_id(data_folder):
    renderer = Renderer(load_tokenizer(str(data_folder / "tokenizers" / "llama2")), "chatmusician")
    encoded = Encoder(ChatFormat(renderer), 200).encode(PROMPT)
    assert encoded.tails == ((319,), (350,), (315,), (360,))
    assert renderer.tokenizer.decode(encoded.prefix).startswith("<s> Human: Which?\nA. one")
