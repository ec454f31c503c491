"""Trains on two hosts, each a network namespace with an end of a cable; test_two_hosts.py starts it under `unshare`.

Each host runs one process of `musician.train`, forked from this one (see killed_runs.py), with the variables that
torchrun sets. Argument: a folder.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from killed_runs import cpu_seconds, fork, import_all, import_as

CLONE_NEWNET = 0x40000000
DIES_AT = 5
OVERRIDES = (
    *("+experiment=smoke", "hardware=cpu_2node", "logger=[csv]", "benchmark=[]", "global_batch_size=4"),
    *("data.limit_train_rows=16", "trainer.max_epochs=2", "lora.r=2", "lora.lora_dropout=0.1"),
    *("callbacks.checkpoints.every_n_steps=1", "hardware.strategy.timeout=40"),
)


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def enter(host, ready, go, dies):
    """In the new process: leave for a network of its own, and wait for the cable."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    os.write(ready, b"1")
    os.read(go, 1)
    ip("address", "add", f"10.9.0.{host + 1}/24", "dev", f"host{host}")
    for device in ("lo", f"host{host}"):
        ip("link", "set", device, "up")
    os.environ |= {"LOCAL_RANK": "0", "NODE_RANK": str(host), "MASTER_ADDR": "10.9.0.1", "MASTER_PORT": "29500"}
    os.environ["GLOO_SOCKET_IFNAME"] = f"host{host}"
    if dies:
        die_in_a_step()


def die_in_a_step():
    """Pull the cable and end without a word, so that the other host hears nothing, not even that a socket closed."""
    from musician.training.module import CausalLMModule

    original = CausalLMModule.training_step

    def training_step(self, batch, batch_idx):
        if self.global_step == DIES_AT:
            ip("link", "set", "host1", "down")
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, batch, batch_idx)

    CausalLMModule.training_step = training_step


def run(folder, name, dies=False):
    """Exit codes of both hosts."""
    ip("link", "add", "host0", "type", "veth", "peer", "name", "host1")
    command = [*OVERRIDES, f"hydra.run.dir={folder / name}", f"data.root={folder / 'data'}", "ckpt_path=auto"]
    hosts = []
    for host in range(2):
        (ready, says_ready), (waits, go) = os.pipe(), os.pipe()
        leave = partial(enter, host, says_ready, waits, dies and host == 1)
        pid = fork(folder, f"{name}", host, 2, 0, command, leave)
        os.read(ready, 1)
        ip("link", "set", f"host{host}", "netns", str(pid))
        hosts.append((pid, go))
    for _, go in hosts:
        os.write(go, b"1")
    return [wait(pid) for pid, _ in hosts]


def wait(pid, most=400):
    """Exit code of a process; None where it had to be killed because it waited for ever."""
    end = time.monotonic() + most
    while time.monotonic() < end:
        if cpu_seconds(pid) is None:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def main(folder):
    import_all()
    whole = run(folder, "whole")
    import_as(folder / "modules")
    found = {
        "whole": whole,
        "killed": run(folder, "cut", dies=True),
        "last": os.readlink(folder / "cut" / "checkpoints" / "last"),
        "resumed": run(folder, "cut"),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
