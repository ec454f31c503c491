"""Ranks of one job as forks of a process that has imported everything once, and computes nothing itself."""

import importlib
import multiprocessing
import os
import socket
import time
from contextlib import suppress
from multiprocessing.connection import wait

import torch


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def import_deepspeed():
    """Import what its engine would import in each rank once it starts: some seconds."""
    for name in ("deepspeed", "deepspeed.runtime.zero.muon.muon_optimizer", "torch._dynamo"):
        importlib.import_module(name)


def run_ranks(count, function, *arguments, seconds=200):
    """Run a function in so many ranks; what each returned (None where it raised or left), and their exit codes."""
    context = multiprocessing.get_context("fork")
    port, ends = free_port(), [context.Pipe(duplex=False) for _ in range(count)]
    ranks = [
        context.Process(target=_rank, args=(number, count, port, answer, function, arguments))
        for number, (_, answer) in enumerate(ends)
    ]
    for rank in ranks:
        rank.start()
    for _, answer in ends:
        answer.close()
    deadline, found = time.monotonic() + seconds, [None] * count
    for number, (question, _) in enumerate(ends):
        if wait([question], max(0.0, deadline - time.monotonic())):
            with suppress(EOFError):
                found[number] = question.recv()
    for rank in ranks:
        rank.join(max(0.1, deadline - time.monotonic()))
        if rank.is_alive():
            rank.kill()
            rank.join()
    return found, [rank.exitcode for rank in ranks]


def _rank(number, count, port, answer, function, arguments):
    if count > 1:
        os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "NODE_RANK": "0", "WORLD_SIZE": str(count)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    answer.send(function(*arguments))
