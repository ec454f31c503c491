"""What real CPU ranks say to each other in a training step, counted twice; rank 0 writes it.

Once as the payload of each collective, at the process group that every caller in Python ends in (DDP's are made in
C++ and escape it), and once as what the loopback interface of this network namespace transmitted. Started by
test_communication.py.
"""

import json
import os
import socket
import sys
from itertools import pairwise
from pathlib import Path

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback
from torch import multiprocessing
from torch.distributed import ProcessGroup

ACCUMULATION = 2
STEPS = 3
PERSISTENT = 500

#: What is run: ZeRO stage, and what else. Stage 3 finds every weight of so small a network again within its reuse
#: distance, and prefetch all at once; "far" is how it treats one of billions.
KINDS = {
    2: ("1", "2", "3", "3 checkpointing", "3 far", "0"),
    4: ("1", "2", "3", "0"),
}
FAR = {"stage3_max_reuse_distance": 0, "stage3_prefetch_bucket_size": 2000, "stage3_max_live_parameters": 50_000}

#: The operation that a method of `ProcessGroup` is part of; torch renamed some.
OPERATIONS = {
    "allreduce": "all_reduce",
    "allreduce_coalesced": "all_reduce",
    "allgather": "all_gather",
    "allgather_coalesced": "all_gather",
    "_allgather_base": "all_gather",
    "all_gather_single": "all_gather",
    "allgather_into_tensor_coalesced": "all_gather",
    "all_gather_single_coalesced": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "_reduce_scatter_base": "reduce_scatter",
    "reduce_scatter_single": "reduce_scatter",
    "reduce_scatter_tensor_coalesced": "reduce_scatter",
    "reduce_scatter_single_coalesced": "reduce_scatter",
    "broadcast": "broadcast",
    "reduce": "reduce",
    "gather": "gather",
    "scatter": "scatter",
    "alltoall": "all_to_all",
    "alltoall_base": "all_to_all",
    "all_to_all_single": "all_to_all",
    "send": "send",
}
counted = []


def count_collectives():
    """Note operation and bytes of the whole (gathered, or not yet scattered) message of each collective."""
    for method, operation in OPERATIONS.items():
        if hasattr(ProcessGroup, method):
            setattr(ProcessGroup, method, counting(getattr(ProcessGroup, method), operation))


def counting(method, operation):
    def call(self, *arguments, **options):
        counted.append((operation, max(size(argument) for argument in arguments[:2])))
        return method(self, *arguments, **options)

    return call


def size(argument):
    if isinstance(argument, torch.Tensor):
        return argument.nbytes
    return sum(map(size, argument)) if isinstance(argument, list | tuple) else 0


def transmitted():
    """Bytes and packets that the loopback interface has sent."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            return int(rest.split()[8]), int(rest.split()[9])
    raise AssertionError("no loopback interface")


class Steps(Callback):
    """Cuts what was counted into optimiser steps; all ranks stand still while the interface is read."""

    def __init__(self):
        self.marks = []

    def mark(self):
        torch.distributed.barrier()
        said = list(counted)
        self.marks.append((said, transmitted()))
        torch.distributed.barrier()
        counted.clear()

    def on_train_start(self, *_):
        self.mark()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if (batch_idx + 1) % ACCUMULATION == 0:
            self.mark()


def rank(index, port, ranks, tunes, out):
    os.environ |= {"LOCAL_RANK": str(index), "NODE_RANK": "0", "DS_ACCELERATOR": "cpu"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    count_collectives()
    found = {}
    for kind in KINDS[ranks]:
        counted.clear()
        marks = train(kind, ranks, tunes)
        found[kind] = [
            {"said": said, "bytes": after[0] - before[0], "packets": after[1] - before[1]}
            for (_, before), (said, after) in pairwise(marks)
        ]
    if index == 0:
        Path(out).write_text(json.dumps(found))


def network(checkpointing=False):
    """A Llama of odd sizes with the recipe's adapter."""
    from peft import LoraConfig

    from musician.model.lora import attach_lora
    from musician.model.network import random_llama

    llama = random_llama(
        259, hidden_size=136, intermediate_size=267, num_hidden_layers=3, gradient_checkpointing=checkpointing
    )
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return attach_lora(llama, LoraConfig(r=16, target_modules=names, modules_to_save=["embed_tokens", "lm_head"]))


def train(kind, ranks, tunes):
    from functools import partial

    from musician.model.optimizer import adamw
    from musician.model.schedule import Constant
    from musician.training.callbacks.metrics import StepMetrics
    from musician.training.module import PretrainModule
    from musician.training.strategy import ZeroStrategy
    from training.toys import data

    batch = ranks * ACCUMULATION
    datamodule = data(tunes, micro=1, batch=batch, rows=batch * STEPS)
    datamodule.setup()
    strategy = "ddp"
    if kind != "0":
        strategy = ZeroStrategy(stage=int(kind[0]), persistence_threshold=PERSISTENT)
        strategy.config["zero_optimization"] |= FAR if "far" in kind else {}
    steps = Steps()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy=strategy,
        max_steps=STEPS,
        accumulate_grad_batches=ACCUMULATION,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        callbacks=[StepMetrics(), steps],
        logger=False,
    )
    trainer.fit(PretrainModule(network("checkpointing" in kind), partial(adamw, lr=1e-3), Constant()), datamodule)
    return steps.marks


def bring_loopback_up():
    """As `ip link set lo up`, in a network namespace of its own."""
    import fcntl
    import struct

    with socket.socket() as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, 0x8913, request))[1]  # SIOCGIFFLAGS
        fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))  # SIOCSIFFLAGS, IFF_UP


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "--namespace" in sys.argv:
        bring_loopback_up()
    import deepspeed  # noqa: F401 - once, before the ranks are forked
    import peft  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = (port, int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    multiprocessing.start_processes(rank, arguments, int(sys.argv[1]), start_method="fork")
