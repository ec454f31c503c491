"""Kills training with SIGKILL at random moments until it has ended, again and again; started by test_killed_runs.py.

A process of `musician.train` spends some ten CPU-seconds on imports. This one imports everything once and forks a child
for each start, which runs the command as `python -m musician.train` would; with two ranks it forks both, and gives them
the variables that a launcher gives. It computes nothing itself: a fork after a backward pass would break autograd.
"""

import importlib
import json
import os
import random
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")

OVERRIDES = (
    *("+experiment=smoke", "logger=[csv]", "benchmark=[]", "data.limit_train_rows=24", "global_batch_size=4"),
    *("lora.lora_dropout=0.1", "trainer.max_epochs=2", "callbacks.checkpoints.every_n_steps=1", "lora.r=2"),
)
LIBRARIES = ("deepspeed", "peft", "datasets", "transformers", "music21", "pytorch_lightning.loggers")
PARTS = (
    "cli.job",
    "training.module",
    "training.runs.record",
    "training.runs.resume",
    "training.strategy",
    "training.datamodule",
)


def start(folder, name, world_size):
    """Fork the ranks of a run that begins or continues in `folder/name`; their process ids."""
    places = [f"hydra.run.dir={folder / name}", f"data.root={folder / 'data'}", "ckpt_path=auto"]
    machine = ["hardware=cpu_2proc"] if world_size == 2 else []
    port = free_port()
    return [fork(folder, name, rank, world_size, port, [*OVERRIDES, *machine, *places]) for rank in range(world_size)]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def import_all():
    for library in LIBRARIES:
        importlib.import_module(library)
    for part in ("train", *PARTS):
        importlib.import_module(f"musician.{part}")


def import_as(file):
    """Import what a run had imported when it ended, so that later forks find it; the CPU-seconds that it took."""
    before = time.process_time()
    for name in file.read_text().split():
        if name not in sys.modules:
            with suppress(Exception):  # some are there only after another, or only once
                importlib.import_module(name)
    return time.process_time() - before


def fork(folder, name, rank, world_size, port, overrides, prepare=lambda: None):
    """Fork one rank of `musician.train` with these overrides, after `prepare`; its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        log = os.open(folder / f"{name}-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if world_size > 1:
            os.environ |= {
                "LOCAL_RANK": str(rank),
                "NODE_RANK": "0",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
        sys.argv = ["musician.train", *overrides]
        prepare()
        importlib.import_module("musician.train").main()
        (folder / "modules").write_text("\n".join(sorted(sys.modules)))
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def cpu_seconds(pid):
    """CPU time that a process has used; None when it has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return None if fields[0] == "Z" else (int(fields[11]) + int(fields[12])) / TICKS


def wait(pids):
    """Exit codes and CPU-seconds of processes that end by themselves."""
    ended = [os.wait4(pid, 0) for pid in pids]
    return [os.waitstatus_to_exitcode(status) for _, status, _ in ended], max(
        u.ru_utime + u.ru_stime for *_, u in ended
    )


def kill_when(pids, is_time):
    """Kill all ranks at a moment; false when they had ended before."""
    while (used := cpu_seconds(pids[0])) is not None and not is_time(used):
        time.sleep(0.002)
    if used is not None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    codes, _ = wait(pids)
    if used is None and any(codes):
        raise SystemExit(f"a run failed: {codes}")
    return used is not None


def writes(checkpoints, count):
    """Whether the `count`th checkpoint since now is being written, as a test to be asked again and again."""
    seen = set()

    def is_time(_):
        with suppress(FileNotFoundError):  # finished between two looks
            seen.update(partial.parent for partial in checkpoints.glob(".step-*.partial/*"))
        return len(seen) >= count

    return is_time


def main(folder, world_size, kills, seed):
    import_all()
    chance = random.Random(seed)
    codes, whole = wait(start(folder, "whole", world_size))
    if any(codes):
        raise SystemExit(f"the undisturbed run failed: {codes}")
    whole -= import_as(folder / "modules")
    moments, ended, inside, name = [], [], 0, "killed0"
    while len(moments) < kills or name not in ended:
        checkpoints = folder / name / "checkpoints"
        pids = start(folder, name, world_size)
        if len(moments) == kills:
            killed = kill_when(pids, lambda _: False)
        elif len(moments) % 2:
            killed = kill_when(pids, writes(checkpoints, chance.randint(1, 4)))
        else:
            moment = chance.uniform(0.2, 1.0) * whole
            killed = kill_when(pids, lambda used, moment=moment: used >= moment)
        if killed:
            last = checkpoints / "last"
            moments.append(os.readlink(last) if last.is_symlink() else None)
            inside += any(checkpoints.glob(".step-*"))
        else:
            ended.append(name)
            name = name if len(moments) == kills else f"killed{len(ended)}"
    print(json.dumps({"kills": moments, "inside_a_write": inside, "ended": ended}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
