"""An interpreter that starts in milliseconds: each process is forked from one that has imported every library once.

A fresh `python -m musician.train` spends some fifteen CPU-seconds on imports. `forked_python()` returns the path of an
executable that is called like `python -m MODULE ...` or `python SCRIPT ...`: it hands its arguments, environment,
directory and open streams to a server, which forks a child that runs the module. The executable passes signals on to
the child and ends as the child ends. In the child `sys.executable` is this executable, so that the processes which a
command starts are forked as well. The server itself computes nothing: a fork after a backward pass breaks autograd.

What differs from a fresh interpreter: a library that reads an environment variable when it is imported has read it
before, and /proc shows the server's command line. Tests of such things start `sys.executable`.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = (
    *("torch", "transformers.models.llama.modeling_llama", "peft", "datasets", "matplotlib.pyplot", "scipy.stats"),
    *("pytorch_lightning.loggers", "torch._dynamo", "deepspeed", "deepspeed.runtime.zero.muon.muon_optimizer"),
    *("wandb", "wandb.sdk.launch.inputs.internal", "torch.utils.tensorboard", "torch.distributed.run"),
    *("hydra.main", "hydra._internal.hydra", "tokenizers", "safetensors.torch"),
)

CLIENT = """\
#!{python} -IS
import json, os, signal, socket, sys

connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
job = json.dumps({{"argv": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}}).encode()
socket.send_fds(connection, [len(job).to_bytes(8, "big")], [0, 1, 2])
connection.sendall(job)
child = int.from_bytes(connection.recv(8), "big")


def forward(number, _):
    os.kill(child, number)


for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
    signal.signal(number, forward)
status = connection.recv(8)
code = os.waitstatus_to_exitcode(int.from_bytes(status, "big")) if status else 1
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@cache
def forked_python() -> str:
    """Return the path of the executable, whose server starts with the first call and ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="forked-python-"))
    address, executable = folder / "socket", folder / "python"
    executable.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    executable.chmod(0o755)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen(64)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    alive, lifeline = os.pipe()  # the server ends when the last writer is gone, however this process ends
    server = subprocess.Popen(
        [sys.executable, __file__, str(listener.fileno()), str(alive), str(executable)],
        cwd=ROOT,
        env={**environment, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)},
        pass_fds=[listener.fileno(), alive],
        stdin=subprocess.DEVNULL,
    )
    os.close(alive)
    os.set_inheritable(lifeline, False)
    atexit.register(server.kill)
    listener.close()
    return str(executable)


def _import_all():
    for library in LIBRARIES:
        importlib.import_module(library)
    import musician

    for package in pkgutil.iter_modules(musician.__path__):
        if package.ispkg:
            for module in pkgutil.walk_packages([f"{ROOT}/musician/{package.name}"], f"musician.{package.name}."):
                with suppress(ImportError):  # wants an extra that is not installed
                    importlib.import_module(module.name)


def _serve(listener, alive):
    """Fork a supervisor for each client and return its connection in it."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listener, alive], [], [])
        if alive in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            _end_with_the_parent()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            os.close(alive)
            return connection
        connection.close()


def _supervise(connection):
    """Fork the client's job and return it in the child; kill the child if the client ends first."""
    job, streams = _receive(connection)
    child = os.fork()
    if child == 0:
        _end_with_the_parent()
        os.setpgid(0, 0)
        connection.close()
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
            os.close(stream)
        return job
    for stream in streams:
        os.close(stream)
    connection.sendall(child.to_bytes(8, "big"))
    ended = os.pidfd_open(child)
    if ended not in select.select([ended, connection], [], [])[0]:
        _kill(child)
    _, status = os.waitpid(child, 0)
    with suppress(OSError):
        connection.sendall(status.to_bytes(8, "big"))
    os._exit(0)


def _end_with_the_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _kill(child):
    """Kill a child and the clients in its process group, whose supervisors then kill their children."""
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def _receive(connection):
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    size, parts = int.from_bytes(size, "big"), b""
    while len(parts) < size:
        parts += connection.recv(size - len(parts))
    return json.loads(parts), streams


def _run(job):
    """Run a module or a script as a fresh interpreter would."""
    import numpy
    import torch
    from wandb.sdk.data_types._private import MEDIA_TMP

    argv = [word for word in job["argv"] if word != "-u"]
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    MEDIA_TMP._finalizer.detach()  # wandb makes this folder when it is imported; the first child to end would remove it
    MEDIA_TMP.__init__("wandb-media")
    random.seed()
    numpy.random.seed()
    sys.path[0] = os.getcwd()
    sys.path[1:1] = os.environ.get("PYTHONPATH", "").split(":") if "PYTHONPATH" in os.environ else []
    if argv[0] == "-m":
        sys.argv = argv[1:]
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = argv
        sys.path[0] = str(Path(argv[0]).resolve().parent)
        runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    _import_all()
    gc.freeze()
    _job = _supervise(_serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])))
    sys.executable = sys.argv[3]
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(fd, mode, 1, closefd=False) for fd, mode in enumerate("rww"))
    _run(_job)
