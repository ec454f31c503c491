import json

import pytest

from musician.benchmarks.multiple_choice.asking import REASON, ROLE, GenerativeMode, fit_question
from musician.benchmarks.multiple_choice.generative import evaluate_generative, write_generations
from musician.benchmarks.shard import Shard
from musician.data.rendering.conversation import Message
from musician.data.rendering.render import Renderer
from musician.generation.decoder import complete
from musician.generation.sampling import Sampling
from musician.runtime.errors import UserError

from .toys import Quiz, byte_tokenizer, tiny_llama


@pytest.fixture
def renderer():
    return Renderer(byte_tokenizer())


def scripted(*answers):
    """A model that gives these answers, and the prompts and limits it was asked with."""
    calls = []

    def generate(prompts, most):
        calls.extend((ids, most) for ids in prompts)
        return reversed(list(enumerate(answers)))

    return generate, calls


def test_failures_are_counted_apart(renderer):
    quiz = Quiz(["one", "two", "three", "four"], [0, 1, 2, 3], ["easy", "easy", "hard", "hard"])
    generate, _ = scripted("Answer: A", "I do not know", "The answer is C", "(A)")
    result = evaluate_generative(quiz, renderer, generate)
    assert (result.benchmark, result.n, result.parse_failures) == ("quiz_generative_chat", 4, 1)
    assert (result.accuracy, result.accuracy_parsed) == (0.5, 2 / 3)
    assert [(r.prediction, r.kind, r.correct) for r in result.records] == [
        ("A", "answer", True),
        (None, None, False),
        ("C", "answer", True),
        ("A", "leading", False),
    ]
    metrics, details = result.metrics(), result.details()
    assert metrics["eval/quiz_generative_chat/easy"] == 0.5
    assert metrics["eval/quiz_generative_chat/parse_failure_rate"] == 0.25
    assert details["eval/quiz_generative_chat/easy/parsed"] == 1.0
    assert details["eval/quiz_generative_chat/read_by_answer"] == 2
    assert details["eval/quiz_generative_chat/micro/n"] == 4


def test_nothing_readable_leaves_no_accuracy_over_read_answers(renderer):
    result = evaluate_generative(Quiz(["one"], [0]), renderer, lambda *_: [(0, "hm")])
    assert (result.accuracy, result.accuracy_parsed, result.accuracies_parsed) == (0, None, {})


def test_a_chat_model_is_asked_in_the_user_s_turn(renderer):
    quiz = Quiz(["stem"], [0], num_fewshot=2)
    generate, calls = scripted("A")
    (record,) = evaluate_generative(quiz, renderer, generate).records
    assert calls == [(renderer.prompt_ids([Message("user", quiz.prompt(quiz.items[0]))]), 32)]
    assert (record.num_tokens, record.shots_kept, record.num_fewshot) == (len(calls[0][0]), 2, 2)


def test_a_base_model_continues_the_text_and_its_next_question_is_not_read(renderer):
    quiz = Quiz(["stem"], [1])
    generate, calls = scripted(" B\n\nNext?\nAnswer: C")
    result = evaluate_generative(quiz, renderer, generate, GenerativeMode(chat=False))
    assert result.benchmark == "quiz_generative"
    assert calls[0][0] == renderer.tokenizer("stem\nAnswer:")["input_ids"]
    assert (result.records[0].response, result.accuracy) == ("B", 1.0)


def test_the_three_ways_of_asking():
    prompt = "Which?\nA. a\nAnswer:"
    assert GenerativeMode().text(prompt) == prompt
    assert GenerativeMode("role_play").text(prompt) == ROLE + prompt
    assert GenerativeMode("role_play", role="You sing.\n").text(prompt) == "You sing.\n" + prompt
    assert GenerativeMode("chain_of_thought").text(prompt) == REASON + "\nWhich?\nA. a\n"
    assert GenerativeMode("chain_of_thought", chat=False).text(prompt) == REASON + "\nWhich?\nA. a\nReasoning:"
    with pytest.raises(UserError, match="did you mean 'role_play'"):
        GenerativeMode("roleplay")


def test_reasoning_is_read_from_its_end_and_has_a_name_of_its_own(renderer):
    quiz = Quiz(["stem"], [2])
    chat, calls = scripted("The answer is A? No.\nAnswer: C")
    result = evaluate_generative(quiz, renderer, chat, GenerativeMode("chain_of_thought"))
    assert (result.benchmark, result.accuracy, calls[0][1]) == ("quiz_generative_chain_of_thought_chat", 1.0, 512)
    base, _ = scripted(" so\n\nAnswer: C\n\nNext?\nAnswer: D")
    assert evaluate_generative(quiz, renderer, base, GenerativeMode("chain_of_thought", chat=False)).accuracy == 1.0


@pytest.mark.parametrize("chat", [True, False])
def test_examples_are_dropped_and_then_the_start_is_cut_to_leave_room(renderer, chat):
    quiz = Quiz(["stem"], [0], num_fewshot=3)
    question = quiz.items[0]
    whole = fit_question(quiz, question, renderer, GenerativeMode(chat=chat))
    tight = GenerativeMode(chat=chat, max_new_tokens=10, max_length=len(whole.ids) + 9)
    assert fit_question(quiz, question, renderer, tight).shots == 2
    long = Quiz(["long " * 40], [0], num_fewshot=1)
    mode = GenerativeMode(chat=chat, max_new_tokens=10, max_length=60)
    asked = fit_question(long, long.items[0], renderer, mode)
    assert (asked.shots, asked.truncated, len(asked.ids)) == (0, True, 50)
    assert "long \nAnswer:" in renderer.tokenizer.decode(asked.ids)
    assert renderer.tokenizer.decode(asked.ids).startswith("<s> Human:" if chat else "<s>")
    for length in (10, 11):
        with pytest.raises(UserError, match="leaves no room"):
            fit_question(long, question, renderer, GenerativeMode(chat=chat, max_new_tokens=10, max_length=length))


def test_two_ranks_give_the_records_of_one(renderer):
    quiz = Quiz([f"{i}" for i in range(5)], [0] * 5)

    def generate(prompts, _):
        return [(number, "A" if len(ids) % 2 else "B") for number, ids in enumerate(prompts)]

    alone = evaluate_generative(quiz, renderer, generate)
    parts = []
    for rank in (1, 0):

        def exchange(sent):
            parts.extend(sent[1])
            return [(None, list(parts) if len(parts) == 5 else [(i, alone.records[i]) for i in range(5)])]

        both = evaluate_generative(quiz, renderer, generate, shard=Shard(rank, 2, exchange))
    assert both == alone


def test_records_are_lines_of_json(renderer, tmp_path):
    result = evaluate_generative(Quiz(["one"], [0]), renderer, lambda *_: [(0, "♯")])
    write_generations(tmp_path / "new" / "generations.jsonl", result.records)
    (line,) = (tmp_path / "new" / "generations.jsonl").read_text().splitlines()
    fields = json.loads(line)
    assert (fields["response"], fields["prediction"], fields["prompt_version"]) == ("♯", None, 3)
    assert fields["prompt_style"] == "opencompass"


@pytest.mark.parametrize("chat", [True, False])
def test_the_framework_s_own_sampling_is_a_generator(renderer, chat):
    network = tiny_llama().eval()

    def generate(prompts, most):
        asked = [(ids, Sampling(temperature=0, max_new_tokens=most)) for ids in prompts]
        read = renderer.read_answer if chat else renderer.read_text
        return ((number, read(ids)) for number, ids in complete(network, asked, renderer.tokenizer.eos_token_id))

    mode = GenerativeMode(chat=chat, max_new_tokens=4)
    first, second = (evaluate_generative(Quiz(["one"], [0]), renderer, generate, mode) for _ in range(2))
    assert first == second
