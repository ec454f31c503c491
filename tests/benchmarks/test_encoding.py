import pytest

from musician.benchmarks.multiple_choice.encoding import Encoder, TextFormat
from musician.benchmarks.multiple_choice.likelihood import Likelihood
from musician.runtime.errors import UserError

from .toys import OracleLM, Quiz, byte_tokenizer, opened


def within(encoder, prompt):
    """The prompt, cut to the encoder's window."""
    return encoder.cut(encoder.encode(prompt))


def test_prefix_and_tails_rebuild_the_four_full_prompts(tokenizer):
    encoded = Encoder(TextFormat(tokenizer), 100).encode("Q\nAnswer:")
    assert encoded.differs_in_one_id
    for tail, letter in zip(encoded.tails, "ABCD", strict=True):
        assert [*encoded.prefix.tolist(), *tail] == tokenizer(f"Q\nAnswer: {letter}")["input_ids"]
    assert encoded.num_tokens == 1 + len("Q\nAnswer: A")


@pytest.mark.parametrize(("bos", "eos"), [(True, False), (False, False), (True, True), (False, True)])
def test_bos_is_the_tokenizer_s_and_nothing_follows_the_answer(bos, eos):
    encoder = Encoder(TextFormat(byte_tokenizer(bos=bos, eos=eos)), 100)
    encoded = encoder.encode("Q\nAnswer:")
    assert encoder.format.bos == ("<s>" if bos else "")
    assert (encoded.prefix[0] == 0) == bos
    assert encoded.differs_in_one_id
    assert all(1 not in tail for tail in encoded.tails)


def test_a_merge_across_the_boundary_breaks_the_premise():
    tokenizer = byte_tokenizer(merges=[("Ġ", "B")])
    encoded = Encoder(TextFormat(tokenizer), 100).encode("Q\nAnswer:")
    assert [len(tail) for tail in encoded.tails] == [2, 1, 2, 2]
    assert not encoded.differs_in_one_id


def test_letters_without_ids_of_their_own_break_the_premise(tokenizer):
    class Deaf:
        decode = tokenizer.decode

        def __call__(self, texts, **options):
            return tokenizer(
                [text.replace("D", "C") for text in texts] if isinstance(texts, list) else texts, **options
            )

    assert not Encoder(TextFormat(Deaf()), 100).encode("Q\nAnswer:").differs_in_one_id


def test_examples_are_dropped_from_the_last_until_the_prompt_fits(tokenizer):
    quiz = Quiz(["stem"], [0], num_fewshot=5)
    question = quiz.questions()[0]
    fits_two = 1 + len(quiz.prompt(question, 2)) + 2
    encoded = Encoder(TextFormat(tokenizer), fits_two).fit(quiz, question)
    assert (encoded.shots, encoded.truncated, encoded.num_tokens) == (2, False, fits_two)
    assert encoded.text == quiz.prompt(question, 2)
    assert Encoder(TextFormat(tokenizer), fits_two - 1).fit(quiz, question).shots == 1


def test_what_is_too_long_without_examples_is_cut_from_the_left(tokenizer):
    quiz = Quiz(["long " * 50], [0], num_fewshot=2)
    encoded = Encoder(TextFormat(tokenizer), 20).fit(quiz, quiz.questions()[0])
    assert (encoded.shots, encoded.truncated, encoded.num_tokens) == (0, True, 20)
    assert encoded.prefix[0] == 0
    assert tokenizer.decode(encoded.prefix[1:]) == "ong long \nAnswer: "
    assert encoded.differs_in_one_id


def test_a_window_without_room_is_refused(tokenizer):
    with pytest.raises(UserError, match="max_length=2 leaves no room"):
        within(Encoder(TextFormat(tokenizer), 2), "Q\nAnswer:")


def test_emulated_opencompass_cuts_the_answer_away_and_reports_a_tie(tokenizer):
    quiz = Quiz(["22" + " long" * 50], [1], num_fewshot=2)
    encoded = Encoder(TextFormat(tokenizer), 20, keep_answer=False).fit(quiz, quiz.questions()[0])
    assert (encoded.shots, encoded.truncated, encoded.num_tokens) == (0, True, 20)
    assert tokenizer.decode([*encoded.prefix[1:], *encoded.tails[0]]) == "22 long long long l"
    assert encoded.answer_cut
    assert not encoded.differs_in_one_id
    (scores,) = Likelihood().score(opened(OracleLM(tokenizer), tokenizer), [encoded])
    assert (scores.prediction, scores.tie) == ("A", True)


def test_emulated_opencompass_keeps_what_is_left_of_an_answer():
    encoded = within(Encoder(TextFormat(byte_tokenizer(merges=[("Ġ", "B")])), 11, keep_answer=False), "Q\nAnswer:")
    assert [len(tail) for tail in encoded.tails] == [1, 1, 1, 1]
    assert len(set(encoded.tails)) == 2
    assert encoded.truncated
    assert not encoded.answer_cut


def test_what_fits_is_alike_with_and_without_emulation(tokenizer):
    quiz = Quiz(["stem"], [0], num_fewshot=5)
    question = quiz.questions()[0]
    length = 1 + len(quiz.prompt(question, 3)) + 2
    ours, theirs = (
        Encoder(TextFormat(tokenizer), length, keep_answer=kind).fit(quiz, question) for kind in (True, False)
    )
    assert (ours.text, ours.shots, ours.tails, ours.truncated) == (theirs.text, 3, theirs.tails, False)
    assert ours.prefix.tolist() == theirs.prefix.tolist()


def test_emulation_without_room_is_refused(tokenizer):
    with pytest.raises(UserError, match="max_length=2 leaves no room"):
        within(Encoder(TextFormat(tokenizer), 2, keep_answer=False), "Q\nAnswer:")
