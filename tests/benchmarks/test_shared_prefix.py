"""What prompts share runs once, and nothing else changes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from musician.benchmarks.multiple_choice.forward import Row
from musician.benchmarks.multiple_choice.shared_prefix import Extend, Read, plan

from .toys import byte_tokenizer, score, tiny_llama

TOKENIZER = byte_tokenizer()
#: Letters glued to their blank by a merge, so that the one-id premise holds for some letters and fails for others.
MERGING = byte_tokenizer(merges=[("Ġ", "B"), (":", "Ġ")])

words = st.text("ab |\n", max_size=30)


@st.composite
def families_of_prompts(draw):
    """Prompts with examples in common, some of them with a passage in common as well, in any order."""
    prompts = []
    for _ in range(draw(st.integers(1, 3))):
        examples = draw(words) * draw(st.integers(1, 8))
        for _ in range(draw(st.integers(1, 3))):
            passage = draw(words) * draw(st.integers(0, 4))
            prompts += [f"{examples}{passage}{draw(words)}\nAnswer:" for _ in range(draw(st.integers(1, 4)))]
    return draw(st.permutations(prompts))


def numbers(network, tokenizer, prompts, **settings):
    return [each.logprobs for each in score(network, tokenizer, prompts, **settings)]


@settings(max_examples=40, deadline=None)
@given(families_of_prompts(), st.sampled_from([TOKENIZER, MERGING]), st.integers(0, 3), st.sampled_from([1, 40, 512]))
def test_all_three_methods_choose_the_same_option(prompts, tokenizer, seed, packed_tokens):
    network = tiny_llama(seed)
    shared = score(network, tokenizer, prompts, method="shared", packed_tokens=packed_tokens)
    single = score(network, tokenizer, prompts, method="single")
    audit = score(network, tokenizer, prompts, method="audit")
    for one, other, literal in zip(shared, single, audit, strict=True):
        torch.testing.assert_close(torch.tensor(one.logprobs), torch.tensor(other.logprobs), rtol=1e-4, atol=1e-4)
        best, runner_up = sorted(literal.logprobs, reverse=True)[:2]
        if best - runner_up > 1e-6:
            assert one.prediction == other.prediction == literal.prediction


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=90), min_size=1, max_size=30), st.integers(1, 200))
def test_a_plan_reads_every_row_once_from_ids_that_are_its_own(ids, max_tokens):
    """The cache a row is read from holds exactly the row's own first ids."""
    rows = [Row(np.array(row, dtype=np.int32), (0, 1, 2, 3)) for row in ids]
    made = plan(rows, max_tokens)
    cache: list[int] = []
    read = list(made.alone)
    for step in made.steps:
        assert step.depth <= len(cache)
        cache = cache[: step.depth]
        if isinstance(step, Extend):
            cache += step.ids.tolist()
            continue
        assert isinstance(step, Read)
        assert len(step.rows) == 1 or sum(len(ids[i]) - step.depth for i in step.rows) <= max_tokens
        for i in step.rows:
            assert ids[i][: step.depth] == cache
            assert len(ids[i]) > step.depth
        read += step.rows
    assert sorted(read) == list(range(len(ids)))
    assert made.forwarded_tokens(rows) <= sum(len(row) for row in ids)


def test_nested_shared_parts_run_once_each():
    examples, passage = list(range(3, 203)), list(range(300, 450))
    alike = [[*examples, *passage, 7, i] for i in range(5)] + [[*examples, 9, i] for i in range(5)]
    rows = [Row(np.array(row, dtype=np.int32), (0, 1, 2, 3)) for row in alike]
    assert plan(rows, 512).forwarded_tokens(rows) <= 200 + 150 + 5 * 2 + 5 * 2
    assert sum(len(row) for row in alike) == 5 * 352 + 5 * 202


def test_an_adapter_is_scored_as_it_is():
    network = get_peft_model(
        tiny_llama(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    prompts = [f"{'example Answer: A ' * 12}question {i}\nAnswer:" for i in range(9)]
    shared, single = (numbers(network, TOKENIZER, prompts, method=method) for method in ("shared", "single"))
    torch.testing.assert_close(torch.tensor(shared), torch.tensor(single), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_grouped_query_attention_and_both_attention_kernels(implementation):
    network = tiny_llama(num_attention_heads=4, num_key_value_heads=2, attn_implementation=implementation)
    prompts = [f"{'shared examples. ' * 10}{'x' * i}\nAnswer:" for i in range(12)]
    shared, single = (numbers(network, TOKENIZER, prompts, method=method) for method in ("shared", "single"))
    torch.testing.assert_close(torch.tensor(shared), torch.tensor(single), rtol=1e-4, atol=1e-4)
