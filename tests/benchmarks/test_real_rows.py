"""Real rows of MMLU and MusicTheoryBench, scored by the package and by a second implementation of the protocol.

The second one is written from the protocol's description alone and shares no code with the package: four full prompts,
one forward each, mean negative log-likelihood over all tokens, the lowest wins, ties to the earlier letter.
"""

import csv
import json
import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from musician.benchmarks.multiple_choice.mmlu import MMLU
from musician.benchmarks.multiple_choice.music_theory_bench import MusicTheoryBench
from musician.benchmarks.multiple_choice.records import read_records

from .toys import evaluate

WINDOW = 2048
MTB_HINT = (
    "Read the following questions from the four options (A, B, C and D) given in each question. "
    "Choose the best option.\n"
)


def body(row, answer):
    stem, options = row["stem"], row["options"]
    return f"{stem}\nA. {options[0]}\nB. {options[1]}\nC. {options[2]}\nD. {options[3]}\nAnswer: {answer}"


def prompt(hint, examples, row, letter):
    shown = "\n".join(body(example, example["gold"]) + "\n" for example in examples)
    return hint + (shown + "\n" if examples else "") + body(row, letter)


def mmlu_rows(folder, split, subject):
    with (folder / split / f"{subject}_{split}.csv").open(encoding="utf-8") as file:
        return [{"stem": cells[0], "options": cells[1:5], "gold": cells[5]} for cells in csv.reader(file)]


def mtb_rows(file):
    rows = []
    for line in file.read_text().splitlines():
        row = json.loads(line)
        stem = row["stem"]
        if row["abc_score"]:
            head = "Use the example below to answer the question that follows."
            stem = stem.replace(head, "").strip() + "\n" + row["abc_score"]
        rows.append({"stem": stem, "options": [row["options"][x] for x in "ABCD"], "gold": row["answer"]})
    return rows


def mean_nll(network, tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([ids])).logits[0].float()
    total = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum")
    return float(total) / len(ids)


def choose(network, tokenizer, hint, examples, row):
    """Letter, scores and examples kept of one question."""
    kept = list(examples)
    while kept and len(tokenizer(prompt(hint, kept, row, "A"))["input_ids"]) > WINDOW:
        kept.pop()
    scores = [mean_nll(network, tokenizer, prompt(hint, kept, row, letter)) for letter in "ABCD"]
    return "ABCD"[scores.index(min(scores))], scores, len(kept)


def network_for(tokenizer):
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


@pytest.fixture(params=["smollm2_tokenizer", "llama2_tokenizer"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def agree(benchmark, expected, tokenizer, folder, method):
    """Predictions, examples kept, accuracy, and the differences between the four scores are those of the oracle."""
    network = network_for(tokenizer)
    file = folder / "predictions.jsonl"
    found = evaluate(benchmark, network, tokenizer, method=method)
    found.write(folder)
    wanted = [choose(network, tokenizer, *question) for question in expected]
    records = read_records(file)
    assert [r.prediction for r in records] == [letter for letter, *_ in wanted]
    assert [r.shots_kept for r in records] == [kept for *_, kept in wanted]
    assert len({r.prediction for r in records}) > 1, "a model that always says the same would agree with anything"
    for record, (_, scores, _) in zip(records, wanted, strict=True):
        # `letter` scores are log-probabilities of the last token; full prompts are divided by their length.
        scale = record.num_tokens if record.method == "letter" else 1
        spread = [(scores[0] - score) * scale for score in scores]
        mine = [value - record.logprobs[0] for value in record.logprobs]
        assert mine == pytest.approx(spread, abs=2e-3)
    right = sum(letter == question[2]["gold"] for (letter, *_), question in zip(wanted, expected, strict=True))
    (micro,) = {value.value for name, value in found.estimates.items() if name in ("micro", "all")}
    assert math.isclose(micro, right / len(expected))
    return records


@pytest.mark.slow
@pytest.mark.parametrize("method", ["shared", "single", "audit"])
def test_real_mmlu_rows(test_data, tokenizer, tmp_path, method):
    """Short subjects, and one whose questions lose examples at 2,048 tokens."""
    few = {"anatomy": 6, "college_mathematics": 4, "high_school_european_history": 1}
    data = test_data / "mmlu"
    benchmark = MMLU(data, subjects=sorted(few), limit=max(few.values()))
    questions = [question for question in benchmark.questions() if question.index < few[question.subject]]
    benchmark.questions = lambda: questions
    dev = {subject: mmlu_rows(data, "dev", subject) for subject in few}
    test = {subject: mmlu_rows(data, "test", subject) for subject in few}
    hint = "The following are multiple choice questions (with answers) about  "
    expected = [
        (f"{hint}{q.subject.replace('_', ' ')}.\n\n", dev[q.subject], test[q.subject][q.index]) for q in questions
    ]
    records = agree(benchmark, expected, tokenizer, tmp_path, method)
    assert min(record.shots_kept for record in records) < 5


@pytest.mark.slow
@pytest.mark.parametrize("num_fewshot", [0, 5])
@pytest.mark.parametrize("method", ["shared", "audit"])
def test_real_music_theory_bench_rows(test_data, tokenizer, tmp_path, num_fewshot, method):
    source, folder = test_data / "musictheorybench", tmp_path / "data"
    folder.mkdir()
    (folder / "dev.jsonl").write_text((source / "dev5.jsonl").read_text())
    (folder / "test.jsonl").write_text((source / "test_sample20.jsonl").read_text())
    rows, dev = mtb_rows(folder / "test.jsonl"), mtb_rows(folder / "dev.jsonl")
    benchmark = MusicTheoryBench(folder, num_fewshot=num_fewshot)
    asked = [rows[question.index] for question in benchmark.questions()]
    assert len(asked) >= 15
    agree(benchmark, [(MTB_HINT, dev[:num_fewshot], row) for row in asked], tokenizer, tmp_path, method)
