import json
from dataclasses import dataclass, field

import pytest

from musician.benchmarks.multiple_choice.encoding import ChatFormat, TextFormat
from musician.benchmarks.multiple_choice.written import REASON, ROLE, WrittenAnswers
from musician.benchmarks.shard import Shard
from musician.data.rendering.conversation import Message
from musician.data.rendering.render import Renderer
from musician.runtime.errors import UserError

from .toys import Quiz, byte_tokenizer, opened, tiny_llama


@pytest.fixture
def renderer():
    return Renderer(byte_tokenizer())


@dataclass(frozen=True)
class Scripted(WrittenAnswers):
    """A model that gives these answers, and the prompts and limits it was asked with."""

    answers: tuple = ()
    calls: list = field(default_factory=list)

    def write(self, model, prompts, on_written):
        self.calls.extend((ids, self.room) for ids in prompts)
        return list(self.answers)


def run(scorer, *arguments, shard=None, **options):
    """The result of a quiz asked by a scorer."""
    return Quiz(*arguments, scorer=scorer, **options).run(opened(tiny_llama(), byte_tokenizer()), shard or Shard())


def records(result):
    return result.records["predictions.jsonl"]


def test_failures_are_counted_apart():
    scorer = Scripted(answers=("Answer: A", "I do not know", "The answer is C", "(A)"))
    result = run(scorer, ["one", "two", "three", "four"], [0, 1, 2, 3], ["easy", "easy", "hard", "hard"])
    assert (result.benchmark, len(records(result))) == ("quiz_generative_chat", 4)
    assert [(r.prediction, r.read_by, r.correct) for r in records(result)] == [
        ("A", "answer", True),
        (None, None, False),
        ("C", "answer", True),
        ("A", "leading", False),
    ]
    metrics, details = result.metrics(), result.details()
    assert metrics["eval/quiz_generative_chat/micro"] == 0.5
    assert metrics["eval/quiz_generative_chat/easy"] == 0.5
    assert metrics["eval/quiz_generative_chat/parse_failure_rate"] == 0.25
    assert details["eval/quiz_generative_chat/parse_failures"] == 1
    assert details["eval/quiz_generative_chat/micro/parsed"] == 2 / 3
    assert details["eval/quiz_generative_chat/easy/parsed"] == 1.0
    assert details["eval/quiz_generative_chat/read_by_answer"] == 2
    assert details["eval/quiz_generative_chat/micro/n"] == 4


def test_nothing_readable_leaves_no_accuracy_over_read_answers():
    result = run(Scripted(answers=("hm",)), ["one"], [0])
    assert result.estimates["micro"].value == 0
    assert result.more == {}


def test_a_chat_model_is_asked_in_the_user_s_turn(renderer):
    scorer = Scripted(answers=("A",))
    quiz = Quiz(["stem"], [0], num_fewshot=2, scorer=scorer)
    (record,) = records(quiz.run(opened(tiny_llama(), byte_tokenizer()), Shard()))
    ((ids, room),) = scorer.calls
    assert (ids, room) == (renderer.prompt_ids([Message("user", quiz.prompt(quiz.items[0]))]), 32)
    assert (record.num_tokens, record.shots_kept, record.num_fewshot) == (len(ids), 2, 2)


def test_a_base_model_continues_the_text_and_its_next_question_is_not_read(renderer):
    scorer = Scripted(chat=False, answers=(" B\n\nNext?\nAnswer: C",))
    result = run(scorer, ["stem"], [1])
    assert result.benchmark == "quiz_generative"
    assert scorer.calls[0][0] == renderer.tokenizer("stem\nAnswer:")["input_ids"]
    assert (records(result)[0].response, result.estimates["micro"].value) == ("B", 1.0)


def test_the_three_ways_of_asking():
    prompt = "Which?\nA. a\nAnswer:"
    assert WrittenAnswers().text(prompt) == prompt
    assert WrittenAnswers("role_play").text(prompt) == ROLE + prompt
    assert WrittenAnswers("role_play", role="You sing.\n").text(prompt) == "You sing.\n" + prompt
    assert WrittenAnswers("chain_of_thought").text(prompt) == REASON + "\nWhich?\nA. a\n"
    assert WrittenAnswers("chain_of_thought", chat=False).text(prompt) == REASON + "\nWhich?\nA. a\nReasoning:"
    with pytest.raises(UserError, match="did you mean 'role_play'"):
        WrittenAnswers("roleplay")


def test_reasoning_is_read_from_its_end_and_has_a_name_of_its_own():
    chat = Scripted("chain_of_thought", answers=("The answer is A? No.\nAnswer: C",))
    result = run(chat, ["stem"], [2])
    assert result.benchmark == "quiz_generative_chain_of_thought_chat"
    assert (result.estimates["micro"].value, chat.calls[0][1]) == (1.0, 512)
    base = Scripted("chain_of_thought", chat=False, answers=(" so\n\nAnswer: C\n\nNext?\nAnswer: D",))
    assert run(base, ["stem"], [2]).estimates["micro"].value == 1.0


@pytest.mark.parametrize("chat", [True, False])
def test_examples_are_dropped_and_then_the_start_is_cut_to_leave_room(renderer, chat):
    prompts = ChatFormat(renderer) if chat else TextFormat(renderer.tokenizer)
    quiz = Quiz(["stem"], [0], num_fewshot=3)
    question = quiz.items[0]
    whole = WrittenAnswers(chat=chat).ask(quiz, question, prompts)
    tight = WrittenAnswers(chat=chat, max_new_tokens=10, max_length=len(whole.ids) + 9)
    assert tight.ask(quiz, question, prompts).shots == 2
    long = Quiz(["long " * 40], [0], num_fewshot=1)
    asked = WrittenAnswers(chat=chat, max_new_tokens=10, max_length=60).ask(long, long.items[0], prompts)
    assert (asked.shots, asked.truncated, len(asked.ids)) == (0, True, 50)
    assert "long \nAnswer:" in renderer.tokenizer.decode(asked.ids)
    assert renderer.tokenizer.decode(asked.ids).startswith("<s> Human:" if chat else "<s>")
    with pytest.raises(UserError, match="leaves no room"):
        WrittenAnswers(chat=chat, max_new_tokens=10, max_length=11).ask(long, question, prompts)
    with pytest.raises(UserError, match="leaves no room"):
        WrittenAnswers(chat=chat, max_new_tokens=10, max_length=10)


def test_two_ranks_give_the_records_of_one():
    def generate(model, prompts, on_written):
        return ["A" if len(ids) % 2 else "B" for ids in prompts]

    scorer = Scripted()
    object.__setattr__(scorer, "write", generate)
    quiz = [f"{'i' * i}" for i in range(5)], [0] * 5
    alone = run(scorer, *quiz)
    parts = {}

    class Stop(Exception):
        pass

    def first_pass(rank):
        def exchange(sent):
            parts[rank] = sent
            raise Stop

        return exchange

    for rank in (1, 0):
        with pytest.raises(Stop):
            run(scorer, *quiz, shard=Shard(rank, 2, first_pass(rank)))
    both = run(scorer, *quiz, shard=Shard(0, 2, lambda sent: [parts[0], parts[1]]))
    assert (both.records, both.estimates, both.more) == (alone.records, alone.estimates, alone.more)


def test_records_are_lines_of_json(tmp_path):
    run(Scripted(answers=("♯",)), ["one"], [0]).write(tmp_path / "new")
    (line,) = (tmp_path / "new" / "predictions.jsonl").read_text().splitlines()
    fields = json.loads(line)
    assert (fields["response"], fields["prediction"], fields["prompt_version"]) == ("♯", None, 3)
    assert (fields["prompt_style"], fields["method"]) == ("opencompass", "written")


@pytest.mark.parametrize("chat", [True, False])
def test_the_framework_s_own_sampling_writes(chat):
    first, second = (run(WrittenAnswers(chat=chat, max_new_tokens=4), ["one"], [0]) for _ in range(2))
    assert first.records == second.records
