"""Which rows a step sees: decided by seed and epoch, whatever machine computes it."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from musician.data.batches import IGNORED, GlobalBatches, Share, collate, row_order
from musician.data.loader import EpochLoader
from musician.data.packing import one_document_a_row, pack
from musician.data.sources.source import RowSource
from musician.data.store.prepare import Recipe, prepare
from musician.data.store.prepared import PreparedData
from musician.model.loss import summed_nll
from musician.model.network import hidden_states, output_head
from musician.training.datamodule import TokenDataModule

from .oracles import tune_in_c, write_jsonl

CAPACITY = 96


@pytest.fixture(scope="module")
def prepared(byte_renderer, tmp_path_factory):
    """Tunes in pieces, and conversations of several turns: no two documents alike."""
    folder = tmp_path_factory.mktemp("prepared")
    rows = [{"text": tune_in_c(seed)[: 20 + 11 * seed]} for seed in range(14)]
    for number in range(12):
        turns = [{"role": role, "content": f"{role[0]}{number}" * (1 + turn)} for turn in (0, 1) for role in ROLES]
        rows.append({"messages": turns[: 2 + 2 * (number % 2)]})
    source = RowSource(write_jsonl(folder / "r.jsonl", rows))
    return prepare(source, byte_renderer, Recipe(CAPACITY), folder / "d")


ROLES = ("user", "assistant")


@pytest.fixture(scope="module")
def split(prepared, byte_tokenizer):
    return PreparedData(prepared, byte_tokenizer).split("train")


# --- order ------------------------------------------------------------------------------------------------------------


@given(number=st.integers(0, 300), seed=st.integers(0, 2**31), epoch=st.integers(0, 1000))
def test_an_epoch_is_every_row_once_in_an_order_of_seed_and_epoch(number, seed, epoch):
    """B25."""
    order = row_order(number, seed, epoch)
    assert sorted(order.tolist()) == list(range(number))
    assert np.array_equal(order, row_order(number, seed, epoch))


def test_the_order_differs_by_epoch_and_by_seed():
    """B25: also (seed 1, epoch 2) from (seed 2, epoch 1)."""
    orders = {(seed, epoch): tuple(row_order(50, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(set(orders.values())) == len(orders)


def test_the_order_owes_nothing_to_the_global_random_state():
    torch.manual_seed(0)
    np.random.seed(0)
    first = row_order(100, 3, 4)
    torch.manual_seed(1)
    np.random.seed(1)
    assert np.array_equal(first, row_order(100, 3, 4))


# --- shares of a global batch -----------------------------------------------------------------------------------------


def rows_of(batch):
    """The rows of a micro-batch that hold anything, as (ids, labels) without the padding on the right."""
    found = []
    for ids, labels, positions in zip(batch["input_ids"], batch["labels"], batch["position_ids"], strict=True):
        starts = (positions == 0).nonzero().flatten().tolist()
        end = next((start for start in starts if bool((labels[start:] == IGNORED).all())), len(ids))
        if end:
            found.append((tuple(ids[:end].tolist()), tuple(labels[:end].tolist())))
    return found


def steps(split, rows, order, global_batch_size, micro, world):
    """For each step: the rows of all ranks and micro-batches, and the counts that came with them."""
    ranks = [GlobalBatches(split, rows, order, global_batch_size, Share(micro, rank, world)) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1, "every rank does as many micro-batches"
    per_step = []
    for step in range(ranks[0].num_steps):
        mine = range(step * ranks[0].accumulation, (step + 1) * ranks[0].accumulation)
        micro_batches = [batches[index] for index in mine for batches in ranks]
        per_step.append(
            (
                [row for batch in micro_batches for row in rows_of(batch)],
                {batch["supervised_in_global_batch"] for batch in micro_batches},
                sum(batch["num_tokens"] for batch in micro_batches),
            )
        )
    return per_step


CUTS = st.sampled_from(
    [(g, m, w) for g in (1, 2, 4, 6, 8, 12) for m in range(1, 7) for w in range(1, 7) if g % (m * w) == 0]
)


@settings(deadline=None, max_examples=60)
@given(cut=CUTS, seed=st.integers(0, 99), packed=st.booleans(), limit=st.integers(1, 26))
def test_a_step_sees_the_same_rows_however_the_work_is_cut_up(split, cut, seed, packed, limit):
    """B24, B26, B27: rows, their order, and the count the loss is divided by; also in a last smaller step."""
    global_batch_size, micro, world = cut
    rows = pack(split.lengths, CAPACITY) if packed else one_document_a_row(len(split))
    order = row_order(len(rows), seed, 0)[:limit]
    found = steps(split, rows, order, global_batch_size, micro, world)
    assert found == steps(split, rows, order, global_batch_size, global_batch_size, 1)

    assert len(found) == -(-len(order) // global_batch_size)
    assert sum(len(held) for held, _, _ in found) == len(order)
    for held, supervised, num_tokens in found:
        assert supervised == {sum(label != IGNORED for _, labels in held for label in labels)}
        assert num_tokens == sum(len(ids) for ids, _ in held)


@pytest.mark.parametrize(("micro", "world"), [(3, 1), (1, 3), (8, 2), (16, 1)])
def test_a_global_batch_that_does_not_divide_is_refused(split, micro, world):
    """B27."""
    rows = one_document_a_row(len(split))
    with pytest.raises(ValueError, match="global_batch_size=8 is not a multiple"):
        GlobalBatches(split, rows, np.arange(8), 8, Share(micro, 0, world))


def test_an_index_past_the_end_is_an_error(split):
    """So that iterating by index ends."""
    batches = GlobalBatches(split, one_document_a_row(len(split)), np.arange(4), 2, Share(1))
    assert len(list(batches)) == len(batches) == 4
    for index in (4, -1):
        with pytest.raises(IndexError):
            batches[index]


def test_the_first_step_skips_exactly_the_steps_before_it(split):
    rows, order = one_document_a_row(len(split)), row_order(len(split), 0, 0)
    whole = [batch["input_ids"].tolist() for batch in GlobalBatches(split, rows, order, 4, Share(2))]
    late = GlobalBatches(split, rows, order, 4, Share(2), first_step=3)
    assert [batch["input_ids"].tolist() for batch in late] == whole[6:]
    assert late.num_steps == -(-len(split) // 4) > 4


# --- one micro-batch --------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(data=st.data(), spare=st.integers(0, 2))
def test_a_row_is_its_documents_with_labels_and_positions_of_their_own(split, data, spare):
    """B7: positions restart at each document; labels are the ids where supervised, and nothing else."""
    documents = st.lists(st.integers(0, len(split) - 1), min_size=1, max_size=4)
    rows = data.draw(st.lists(documents, min_size=0, max_size=3))
    size = max(1, len(rows) + spare)
    batch = collate(split, [np.array(row) for row in rows], size, 17)

    width = max([1, *(sum(int(split.lengths[document]) for document in row) for row in rows)])
    assert {batch[name].shape for name in ("input_ids", "labels", "position_ids")} == {(size, width)}
    assert {batch[name].dtype for name in ("input_ids", "labels", "position_ids")} == {torch.int64}
    assert batch["supervised_in_global_batch"] == 17
    assert batch["num_tokens"] == sum(int(split.lengths[document]) for row in rows for document in row)
    lengths = []
    for row in range(size):
        expected = []
        for document in rows[row] if row < len(rows) else []:
            pairs = zip(split.input_ids(document).tolist(), split.supervised(document).tolist(), strict=True)
            expected += [(i, i if wanted else IGNORED, place) for place, (i, wanted) in enumerate(pairs)]
            lengths.append(int(split.lengths[document]))
        lengths += [width - len(expected)] * (len(expected) < width)
        expected += [(split.pad_id, IGNORED, place) for place in range(width - len(expected))]
        columns = (batch[name][row].tolist() for name in ("input_ids", "labels", "position_ids"))
        assert list(zip(*columns, strict=True)) == expected
    assert batch["document_lengths"] == lengths


def test_no_document_s_first_token_is_a_target(split):
    """B7: it would be predicted from the document before it."""
    assert not any(split.supervised(document)[0] for document in range(len(split)))


# --- packed = unpacked ------------------------------------------------------------------------------------------------


def nll_alone(network, split, document):
    """By transformers' own forward pass and torch's cross entropy, the document on its own."""
    ids = torch.from_numpy(split.input_ids(document).astype(np.int64))
    targets = torch.where(torch.from_numpy(split.supervised(document)), ids, -100)
    logits = network(input_ids=ids[None]).logits[0]
    return functional.cross_entropy(logits[:-1], targets[1:], ignore_index=-100, reduction="sum").item()


def nll_of_rows(network, split, rows, micro):
    order = np.arange(len(rows))
    total = 0.0
    for batch in GlobalBatches(split, rows, order, micro, Share(micro)):
        hidden = hidden_states(network, batch["input_ids"], batch["position_ids"], batch["document_lengths"])
        total += summed_nll(hidden, batch["labels"], output_head(network)).item()
    return total


@torch.no_grad()
@pytest.mark.parametrize("micro", [1, 4])
def test_packed_rows_give_the_loss_of_the_documents_alone(tiny_network, split, micro):
    """B7: no document sees another, whether they share a row or the padding."""
    alone = sum(nll_alone(tiny_network, split, document) for document in range(len(split)))
    packed = pack(split.lengths, CAPACITY)
    assert max(len(packed[row]) for row in range(len(packed))) > 1
    assert nll_of_rows(tiny_network, split, packed, micro) == pytest.approx(alone, rel=1e-5)
    assert nll_of_rows(tiny_network, split, one_document_a_row(len(split)), micro) == pytest.approx(alone, rel=1e-5)


@torch.no_grad()
def test_the_packed_loss_would_show_a_leak(tiny_network, split):
    """The test above can fail: with positions that run on, its difference is far beyond its tolerance."""
    alone = sum(nll_alone(tiny_network, split, document) for document in range(len(split)))
    leaked = 0.0
    packed = pack(split.lengths, CAPACITY)
    for batch in GlobalBatches(split, packed, np.arange(len(packed)), 1, Share(1)):
        hidden = hidden_states(tiny_network, batch["input_ids"])
        leaked += summed_nll(hidden, batch["labels"], output_head(tiny_network)).item()
    assert abs(leaked - alone) > 1e-4 * alone


@torch.no_grad()
def test_an_empty_share_adds_nothing_to_the_loss(tiny_network, split):
    batch = collate(split, [], 2, 5)
    hidden = hidden_states(tiny_network, batch["input_ids"], batch["position_ids"])
    assert summed_nll(hidden, batch["labels"], output_head(tiny_network)).item() == 0.0
    assert batch["num_tokens"] == 0


# --- epochs and resuming ----------------------------------------------------------------------------------------------


def loader(split, global_batch_size=4, micro=1, rank=0, world=1, num_workers=0):
    rows = one_document_a_row(len(split))
    share = Share(micro, rank, world)
    return EpochLoader(
        lambda epoch, step: GlobalBatches(split, rows, row_order(len(rows), 7, epoch), global_batch_size, share, step),
        num_workers,
    )


def ids(batches):
    return [batch["input_ids"].tolist() for batch in batches]


def test_each_epoch_has_its_order(split):
    """B25: `set_epoch` is what Lightning calls, on `sampler`."""
    batches = loader(split)
    first, again = ids(batches), ids(batches)
    batches.sampler.set_epoch(1)
    second = ids(batches)
    assert first == again
    assert first != second
    assert sorted(map(str, first)) == sorted(map(str, second))


@settings(deadline=None, max_examples=40)
@given(epoch=st.integers(0, 3), step=st.integers(0, 8), micro=st.sampled_from([1, 2, 4]))
def test_a_resumed_epoch_has_exactly_the_batches_that_were_left(split, epoch, step, micro):
    """B28: and its length is that of a whole epoch, so progress is counted from its beginning."""
    num_steps = -(-len(split) // 4)
    assume(step < num_steps)
    whole = loader(split, micro=micro)
    whole.set_epoch(epoch)
    everything = ids(whole)
    resumed = loader(split, micro=micro)
    resumed.load_state_dict({"epoch": epoch, "step": step})
    assert len(resumed) == len(whole) == len(everything) == num_steps * (4 // micro)
    assert ids(resumed) == everything[step * (4 // micro) :]
    assert ids(resumed) == everything, "the epoch after it is whole again"
    assert len(resumed) == len(everything)


@settings(deadline=None, max_examples=40)
@given(handed_out=st.integers(0, 40), micro=st.sampled_from([1, 2, 4]))
def test_the_position_is_the_last_step_boundary(split, handed_out, micro):
    batches = loader(split, micro=micro)
    handed_out = min(handed_out // micro, len(batches))
    batches.set_epoch(2)
    iterator = iter(batches)
    taken = [next(iterator)["input_ids"].tolist() for _ in range(handed_out)]
    state = batches.state_dict()
    assert state == {"epoch": 2, "step": handed_out // (4 // micro)}
    if handed_out == len(batches):
        return
    other = loader(split, micro=micro)
    other.load_state_dict(state)
    done = state["step"] * (4 // micro)
    assert taken[:done] + ids(other) == ids(loader_at(split, 2, micro))


def loader_at(split, epoch, micro):
    batches = loader(split, micro=micro)
    batches.set_epoch(epoch)
    return batches


@pytest.mark.parametrize(("micro", "world"), [(4, 1), (2, 1), (1, 1), (1, 2), (2, 2), (1, 4)])
def test_the_position_does_not_depend_on_the_world(split, micro, world):
    for rank in range(world):
        batches = loader(split, micro=micro, rank=rank, world=world)
        iterator = iter(batches)
        for _ in range(3 * 4 // (micro * world)):
            next(iterator)
        assert batches.state_dict() == {"epoch": 0, "step": 3}


def test_a_finished_epoch_continues_with_the_next(split):
    batches = loader(split)
    list(batches)
    state = batches.state_dict()
    resumed = loader(split)
    resumed.load_state_dict(state)
    assert ids(resumed) == ids(loader_at(split, 1, 1))


def test_the_position_survives_saving_again_before_a_batch_was_taken(split):
    """A run resumed and stopped at once, or validated before it goes on, has not moved."""
    batches = loader(split, micro=1)
    batches.load_state_dict({"epoch": 1, "step": 3})
    assert batches.state_dict() == {"epoch": 1, "step": 3}


def test_a_new_epoch_begins_at_its_first_step(split):
    """Saved as (1, 7), the position would be read as the end of epoch 1, and that epoch skipped."""
    batches = loader(split)
    list(batches)
    batches.set_epoch(1)
    assert batches.state_dict() == {"epoch": 1, "step": 0}


def test_a_process_that_builds_batches_ahead_changes_neither_batches_nor_position(split):
    """B17: prefetched batches do not count as handed out."""
    ahead = loader(split, micro=2, num_workers=1)
    iterator = iter(ahead)
    taken = [next(iterator)["input_ids"].tolist() for _ in range(4)]
    assert ahead.state_dict() == {"epoch": 0, "step": 2}
    assert taken + ids(iterator) == ids(loader(split, micro=2))


# --- as Lightning sees it ---------------------------------------------------------------------------------------------


def module(renderer, path, **settings):
    datamodule = TokenDataModule(renderer, path=str(path), max_length=CAPACITY, seed=3, **settings)
    datamodule.schedule_work(global_batch_size=4, micro_batch_size=2)
    datamodule.setup("fit")
    return datamodule


@pytest.mark.parametrize("reshuffle", [True, False])
def test_reshuffling_is_a_choice(byte_renderer, prepared, reshuffle):
    """B25: off, the order repeats as in the original."""
    batches = module(byte_renderer, prepared, reshuffle=reshuffle).train_dataloader()
    first = ids(batches)
    batches.set_epoch(1)
    assert (ids(batches) != first) == reshuffle


def test_a_limit_takes_the_first_rows_of_each_epoch(byte_renderer, prepared):
    limited = module(byte_renderer, prepared, limit_train_rows=6, packing=False)
    whole = module(byte_renderer, prepared, packing=False)
    rows = [row for batch in limited.train_dataloader() for row in rows_of(batch)]
    assert len(rows) == 6
    assert rows == [row for batch in whole.train_dataloader() for row in rows_of(batch)][:6]


def test_no_row_is_longer_than_max_length(byte_renderer, prepared):
    """B6."""
    widths = [batch["input_ids"].shape[1] for batch in module(byte_renderer, prepared).train_dataloader()]
    assert 0 < max(widths) <= CAPACITY


def test_validation_is_every_held_out_document_once(byte_renderer, byte_tokenizer, tmp_path):
    source = RowSource(write_jsonl(tmp_path / "r.jsonl", [{"text": tune_in_c(seed)} for seed in range(30)]))
    path = prepare(source, byte_renderer, Recipe(CAPACITY, 0.4), tmp_path / "d")
    held_out = PreparedData(path, byte_tokenizer).split("validation")
    batches = list(module(byte_renderer, path).val_dataloader())
    assert sum(batch["num_tokens"] for batch in batches) == held_out.lengths.sum()
    found = [i for batch in batches for row, _ in rows_of(batch) for i in row]
    assert (
        np.bincount(found).tolist()
        == np.bincount(np.concatenate([held_out.input_ids(document) for document in range(len(held_out))])).tolist()
    )


def test_nothing_held_out_is_no_validation(byte_renderer, prepared):
    assert module(byte_renderer, prepared).val_dataloader() == []
