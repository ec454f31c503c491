"""The grammar over real vocabularies: random networks write tunes that foreign readers take."""

import random

import pytest
import torch
from abc_readers import abc2midi_complaints, music21_notes

from musician.generation.constraint import _DETOUR, ConstrainedLogits, GrammarConstraint
from musician.model.network import random_llama
from musician.music.grammar import TuneConstraints, TuneGrammar
from musician.runtime.errors import UserError

BUDGET = 260


def generate(tokenizer, processors, rows=4):
    network = random_llama(len(tokenizer)).eval()
    ids = torch.tensor([[tokenizer.eos_token_id, 5], [6, 7]] * (rows // 2))
    torch.manual_seed(0)
    out = network.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        temperature=1.5,
        top_k=0,
        max_new_tokens=BUDGET,
        logits_processor=processors,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        use_cache=True,
    )
    rows = out[:, 2:].tolist()
    eos = tokenizer.eos_token_id
    return [tokenizer.decode(row[: row.index(eos)] if eos in row else row) for row in rows]


@pytest.mark.parametrize(
    "constraints", [TuneConstraints(voices=2), TuneConstraints(bars=6, sections=2, meter="6/8", key="Ador")]
)
@pytest.mark.parametrize("name", ["byte_tokenizer", pytest.param("smollm2_tokenizer", marks=pytest.mark.slow)])
def test_a_random_network_writes_tunes(name, constraints, request, tmp_path):
    tokenizer = request.getfixturevalue(name)
    constraint = GrammarConstraint(tokenizer, constraints)
    tunes = generate(tokenizer, [ConstrainedLogits(constraint, BUDGET)])
    assert len(set(tunes)) == len(tunes)
    for tune in tunes:
        state = TuneGrammar(constraints).walk(TuneGrammar(constraints).start(), tune)
        assert state is not None, tune
        assert TuneGrammar(constraints).accepts(state), tune
        assert abc2midi_complaints(tune, tmp_path) == [], tune
        assert music21_notes(tune) > 0


def test_a_free_network_does_not(byte_tokenizer):
    grammar = TuneGrammar()
    assert all(grammar.walk(grammar.start(), tune) is None for tune in generate(byte_tokenizer, []))


def test_no_token_takes_the_end_out_of_reach(smollm2_tokenizer):
    constraint = GrammarConstraint(smollm2_tokenizer, TuneConstraints(voices=2))
    rng, state = random.Random(0), constraint.start()
    for _ in range(250):
        ids = constraint.allowed(state, 10**6).tolist()
        far = len(constraint.grammar.completion(state))
        for token in rng.sample(ids, min(10, len(ids))):
            if token != constraint.eos:
                after = constraint.advance(state, token)
                assert len(constraint.grammar.completion(after)) <= far + _DETOUR
        choices = [token for token in ids if token != constraint.eos]
        state = constraint.advance(state, rng.choice(choices)) if choices else constraint.start()


def test_an_impossible_budget_is_refused(byte_tokenizer):
    constraint = GrammarConstraint(byte_tokenizer, TuneConstraints(bars=100))
    with pytest.raises(UserError, match="raise max_new_tokens"):
        constraint.allowed(constraint.start(), 50)


def allowed_by_the_grammar(constraint, state):
    """Ids whose text the grammar takes character by character, without anything remembered."""
    grammar = constraint.grammar
    found = [token for token, text in constraint.vocabulary.texts.items() if grammar.walk(state, text) is not None]
    return sorted([*found, constraint.eos] if grammar.accepts(state) else found)


@pytest.mark.parametrize(
    "constraints",
    [TuneConstraints(), TuneConstraints(voices=2), TuneConstraints(bars=3, sections=2, meter="6/8")],
    ids=["free", "voices", "short"],
)
@pytest.mark.parametrize(
    ("name", "steps"), [("byte_tokenizer", 300), pytest.param("smollm2_tokenizer", 25, marks=pytest.mark.slow)]
)
def test_remembered_masks_are_those_of_the_grammar(name, steps, constraints, request, monkeypatch):
    """Random walks, on which what is remembered is dropped now and then."""
    monkeypatch.setattr("musician.generation.constraint._IDS", 20_000)
    constraint = GrammarConstraint(request.getfixturevalue(name), constraints)
    rng, state = random.Random(0), constraint.start()
    for _ in range(steps):
        ids = constraint.allowed(state, 10**6).tolist()
        assert ids == allowed_by_the_grammar(constraint, state), state
        token = rng.choice(
            [token for token in ids if rng.random() < 0.5 or "\n" in constraint.vocabulary.texts.get(token, "")] or ids
        )
        state = constraint.start() if token == constraint.eos else constraint.advance(state, token)
