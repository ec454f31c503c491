"""The scorer, on networks whose answers are known or that are random but tiny."""

import math
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from musician.benchmarks.multiple_choice.forward import Row
from musician.benchmarks.multiple_choice.likelihood import Likelihood, Scores, plan_batches
from musician.runtime.errors import UserError

from .toys import OracleLM, byte_tokenizer, opened, score, tiny_llama

PROMPTS = [f"{'x' * (7 * i % 40)} question {i}?\nA. {i}\nAnswer:" for i in range(17)]
TOKENIZER = byte_tokenizer()
SPLITTING = byte_tokenizer(merges=[("Ġ", "B"), ("Ġ", "D")])

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=60)


def reference_scores(network, tokenizer, prompt):
    """OpenCompass' rule from full logits: summed NLL over the number of tokens, in float64."""
    scores = []
    for letter in "ABCD":
        ids = torch.tensor([tokenizer(f"{prompt} {letter}")["input_ids"]])
        with torch.no_grad():
            logits = network(ids).logits[0, :-1].double()
        nll = nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        scores.append(-nll.item() / ids.shape[1])
    return scores


def test_oracle_finds_the_marked_answer():
    prompts = ["1 Answer:", "22 3 Answer:", "a longer question 1 2 33 Answer:", "4444 Answer:"]
    scores = score(OracleLM(TOKENIZER), TOKENIZER, prompts)
    assert "".join(s.prediction for s in scores) == "ABCD"
    logits = torch.zeros(len(TOKENIZER))
    logits[TOKENIZER.convert_tokens_to_ids("B")], logits[TOKENIZER.convert_tokens_to_ids("C")] = 2.0, 1.0
    wanted = logits.log_softmax(0)[TOKENIZER.convert_tokens_to_ids(list("ABCD"))]
    torch.testing.assert_close(torch.tensor(scores[1].logprobs), wanted)
    assert scores[1].letter_mass == pytest.approx(wanted.exp().sum().item(), rel=1e-6)


@pytest.mark.parametrize("method", ["shared", "single", "audit"])
def test_ties_go_to_the_earlier_letter_and_are_marked(method):
    nothing, two_ways = score(OracleLM(TOKENIZER), TOKENIZER, ["Answer:", "24 Answer:"], method=method)
    assert (nothing.prediction, nothing.tie) == ("A", True)
    assert (two_ways.prediction, two_ways.tie) == ("B", True)


@given(st.integers(0, 2**31), st.lists(texts, min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_one_forward_chooses_what_four_full_prompts_choose(seed, stems):
    network, prompts = tiny_llama(seed), [f"{stem}\nAnswer:" for stem in stems]
    fast, slow = score(network, TOKENIZER, prompts), score(network, TOKENIZER, prompts, method="audit")
    for one, four, prompt in zip(fast, slow, prompts, strict=True):
        length = len(TOKENIZER(f"{prompt} A")["input_ids"])
        assert (one.method, four.method) == ("letter", "audit")
        best, second = sorted(one.logprobs)[-1:-3:-1]
        assert one.prediction == four.prediction or best - second < 1e-4
        assert list(four.logprobs) == pytest.approx(reference_scores(network, TOKENIZER, prompt), abs=1e-5)
        gaps = [(x - one.logprobs[0]) / length for x in one.logprobs]
        assert gaps == pytest.approx([x - four.logprobs[0] for x in four.logprobs], abs=1e-5)


@given(st.integers(0, 2**31), texts)
@settings(max_examples=10, deadline=None)
def test_where_letters_are_not_one_id_the_full_rule_decides(seed, stem):
    network = tiny_llama(seed)
    (scores,) = score(network, SPLITTING, [f"{stem}\nAnswer:"])
    wanted = reference_scores(network, SPLITTING, f"{stem}\nAnswer:")
    assert (scores.method, scores.letter_mass) == ("full", None)
    assert list(scores.logprobs) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("tokenizer", [TOKENIZER, SPLITTING])
@pytest.mark.parametrize("batch_size", [2, 3, 5, 16])
def test_batch_size_and_order_change_nothing(tokenizer, batch_size):
    network = tiny_llama(5)
    alone = score(network, tokenizer, PROMPTS, batch_size=1)
    order = Random(batch_size).sample(range(len(PROMPTS)), len(PROMPTS))
    together = score(network, tokenizer, [PROMPTS[i] for i in order], batch_size=batch_size, max_tokens=200)
    for position, i in enumerate(order):
        assert together[position].logprobs == pytest.approx(alone[i].logprobs, abs=1e-5)
        assert together[position].prediction == alone[i].prediction


def test_half_precision_networks_answer_in_fp32():
    scores = score(tiny_llama(1).bfloat16(), TOKENIZER, PROMPTS)
    values = torch.tensor([s.logprobs for s in scores])
    assert not torch.equal(values, values.bfloat16().float())
    assert not any(s.tie for s in scores)


def test_the_network_is_left_as_it_was():
    network = tiny_llama(2)
    body, state = network.model, torch.get_rng_state()
    first = score(network, TOKENIZER, PROMPTS)
    assert network.model is body
    assert torch.equal(torch.get_rng_state(), state)
    assert first == score(network, TOKENIZER, PROMPTS)
    network(torch.tensor([[1, 2, 3]])).logits.sum().backward()


def test_mixed_precision_computes_in_it_and_the_audit_in_fp32():
    """The letters of the body in bf16 are near those in fp32 and not the same; the audit's are the same to the bit."""
    plain, mixed = (score(tiny_llama(1), TOKENIZER, PROMPTS, precision=p) for p in ("32-true", "bf16-mixed"))
    a, b = (torch.tensor([each.logprobs for each in scores]) for scores in (plain, mixed))
    assert not torch.equal(a, b)
    torch.testing.assert_close(a, b, atol=0.3, rtol=0.1)
    audits = [score(tiny_llama(1), TOKENIZER, PROMPTS, p, method="audit") for p in ("32-true", "bf16-mixed")]
    assert audits[0] == audits[1]
    with pytest.raises(UserError, match=r"audit: needs weights in fp32; open the model with model.precision=32-true"):
        score(tiny_llama(1).bfloat16(), TOKENIZER, PROMPTS, "bf16-true", method="audit")


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=2, target_modules=["q_proj", "v_proj"]),
        LoraConfig(r=2, target_modules=["q_proj", "lm_head"]),
        LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]),
    ],
)
def test_adapters_take_part(config):
    network = get_peft_model(tiny_llama(3), config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                parameter.add_(
                    torch.full_like(parameter, 0.05) * (1 + len(name) % 3) * torch.linspace(-1, 1, parameter.shape[-1])
                )
    for prompt, scores in zip(PROMPTS[:3], score(network, TOKENIZER, PROMPTS[:3], method="audit"), strict=True):
        assert list(scores.logprobs) == pytest.approx(reference_scores(network, TOKENIZER, prompt), abs=1e-5)


SIZES = {
    **{"vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 4096},
    **{"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
}
FAMILIES = {
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=7.0, embedding_multiplier=3.0)),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.2)),
    "gemma2": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0, sliding_window=4096)
    ),
    "gemma2 window": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0, sliding_window=16)
    ),
    "mistral window": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=16)),
}


@pytest.mark.parametrize("method", ["shared", "single", "audit"])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_transformers_own_logits(family, method):
    """Scaled or capped logits, and attention that sees only a window: of prompts that share 60 tokens."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = FAMILIES[family]().float().eval()
    prompts = [f"{'examples to be shared ' * 5}{'x' * i} question {i}?\nAnswer:" for i in range(5)]
    for prompt, scores in zip(prompts, score(network, TOKENIZER, prompts, method=method), strict=True):
        if method == "audit":
            expected = reference_scores(network, TOKENIZER, prompt)
        else:
            with torch.no_grad():
                logits = network(torch.tensor([TOKENIZER(f"{prompt} ")["input_ids"]])).logits[0, -1]
            expected = logits.log_softmax(-1)[TOKENIZER.convert_tokens_to_ids(list("ABCD"))].tolist()
        assert list(scores.logprobs) == pytest.approx(expected, abs=2e-4)


def test_the_window_is_the_smaller_of_the_network_s_and_2048(tokenizer):
    for positions, window in ((4096, 2048), (64, 64)):
        encoder = Likelihood().encoder(opened(tiny_llama(max_position_embeddings=positions), tokenizer))
        encoded = encoder.cut(encoder.encode("x" * 3000 + "\nAnswer:"))
        assert (encoded.num_tokens, encoded.truncated) == (window, True)


def test_batches_hold_one_kind_within_the_budget():
    rows = [Row.whole(torch.zeros(n).int().numpy(), (1,)) for n in (3, 9, 4)]
    rows += [Row(torch.zeros(n).int().numpy(), (5, 6, 7, 8)) for n in (5, 50, 4, 6, 5)]
    batches = plan_batches(rows, batch_size=3, max_tokens=12)
    assert batches == [[4], [6, 3], [7, 5], [1], [2, 0]]


def test_a_score_that_is_not_finite_has_no_prediction():
    scores = Scores((0.0, math.nan, 0.0, 0.0), "letter", math.nan)
    assert (scores.prediction, scores.tie) == (None, False)


def test_progress_reaches_the_end():
    seen = []
    scorer = Likelihood(method="single", batch_size=4)
    model = opened(OracleLM(TOKENIZER), TOKENIZER)
    prompts = [scorer.encoder(model).encode(p) for p in PROMPTS]
    scorer.score(model, prompts, on_progress=lambda *counts: seen.append(counts))
    assert seen == [(4, 17), (8, 17), (12, 17), (16, 17), (17, 17)]


def test_impossible_batches_are_refused():
    with pytest.raises(UserError, match="batch_size is 0"):
        Likelihood(batch_size=0)
