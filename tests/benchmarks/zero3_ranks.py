"""What each rank of `test_zero3` runs: evaluate with sharded weights between training steps."""

import deepspeed
import torch
import torch.distributed as dist
from toys import Quiz, byte_tokenizer, evaluate, tiny_llama

from musician.benchmarks.shard import Shard

CONFIG = {
    "train_micro_batch_size_per_gpu": 1,
    "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    "optimizer": {"type": "Adam", "params": {"lr": 1e-3, "torch_adam": True}},
}


def exchange(item):
    slots = [None] * dist.get_world_size()
    dist.all_gather_object(slots, item)
    return slots


def check(tokenizer):
    quiz = Quiz([f"{'x' * (i * 5 % 37)} q {i}" for i in range(11)], [i % 4 for i in range(11)])
    alone = evaluate(quiz, tiny_llama(1), tokenizer)
    network = tiny_llama(1)
    engine, *_ = deepspeed.initialize(model=network, model_parameters=network.parameters(), config=CONFIG)
    shard = Shard(dist.get_rank(), dist.get_world_size(), exchange)
    for step in range(2):
        found = evaluate(quiz, engine.module, tokenizer, shard, batch_size=2)
        assert step or found.estimates == alone.estimates
        ids = torch.tensor([[1, 2, 3]])
        engine.backward(engine(input_ids=ids, labels=ids).loss)
        engine.step()


deepspeed.init_distributed("gloo")
check(byte_tokenizer())
check(byte_tokenizer(merges=[("Ġ", "B")]))
print(f"rank {dist.get_rank()} agrees")
