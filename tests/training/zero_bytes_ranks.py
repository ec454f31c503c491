"""Bytes that two real CPU ranks hold under each ZeRO stage, in fp32 and fp16. Started by test_plan.py."""

import json
import sys
from pathlib import Path

import torch

RANKS = 2
#: Stage, whether LoRA or all weights train, and the type that computes.
CASES = [
    *((1, "lora", "fp32"), (2, "lora", "fp32"), (2, "all", "fp32"), (3, "lora", "fp32")),
    *((1, "lora", "fp16"), (2, "lora", "fp16"), (3, "lora", "fp16")),
]


def network(adapted):
    """A Llama of odd sizes, so that nothing divides evenly over the ranks."""
    from peft import LoraConfig

    from musician.model.lora import attach_lora
    from musician.model.network import random_llama

    llama = random_llama(103, hidden_size=36, intermediate_size=67, num_attention_heads=2, num_key_value_heads=1)
    names = ["q_proj", "v_proj", "down_proj"]
    return attach_lora(llama, LoraConfig(r=3, target_modules=names, modules_to_save=["lm_head"]) if adapted else None)


def size(tensors):
    """Bytes of distinct storages."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t is not None}
    return sum(storages.values())


def count_bytes(stage, kind, dtype):
    import deepspeed
    import deepspeed.ops

    from musician.model.optimizer import adamw
    from musician.training.strategy import ZeroStrategy

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", verbose=False)
    config = dict(ZeroStrategy(stage=stage).config)
    config |= {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1, "gradient_clipping": 1.0}
    config |= {"fp16": {"enabled": dtype == "fp16", "initial_scale_power": 1}}
    # Lightning's buckets of 200 million numbers would hide what is counted.
    config["zero_optimization"] |= {"reduce_bucket_size": 10_000, "allgather_bucket_size": 10_000}
    model = network(kind == "lora")
    engine, optimizer, _, _ = deepspeed.initialize(
        model=model, optimizer=adamw(model, 1e-3), config=config, model_parameters=None
    )
    index = torch.distributed.get_rank()
    ids = torch.randint(0, 103, (1, 24), generator=torch.Generator().manual_seed(index))
    engine.backward(engine(input_ids=ids, labels=ids).loss)
    # By number: under stages 1 and 2 they are views into the buckets of communication.
    found = {"gradients": sum(t.nbytes for t in gradients(optimizer, model, stage))}
    engine.step()
    found["weights"] = size(weights(model))
    found["optimizer"] = size(state(optimizer, stage))
    torch.distributed.barrier()
    return found


def weights(model):
    for parameter in model.parameters():
        yield parameter.data
        if hasattr(parameter, "ds_tensor"):
            yield parameter.ds_tensor.data


def gradients(optimizer, model, stage):
    assert all(parameter.grad is None for parameter in model.parameters())
    if stage == 3:
        yield optimizer.grad_partitions_flat_buffer
    else:
        for group in optimizer.averaged_gradients.values():
            yield from group or ()


def state(optimizer, stage):
    yield from optimizer.fp32_partitioned_groups_flat if stage == 3 else optimizer.single_partition_of_fp32_groups
    for values in optimizer.optimizer.state.values():
        yield values["exp_avg"]
        yield values["exp_avg_sq"]


def main(out):
    from deepspeed.accelerator import get_accelerator

    from training.forked import import_deepspeed, run_ranks

    import_deepspeed()
    get_accelerator().is_fp16_supported = lambda: True  # slow, not impossible
    found = {"-".join(map(str, case)): run_ranks(RANKS, count_bytes, *case)[0][0] for case in CASES}
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
