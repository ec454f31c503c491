"""A training run in this process, in a second; and the real command in its own."""

import csv
import json
import os
import random
import subprocess
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytorch_lightning as lightning
import torch
from forked_python import forked_python
from peft import LoraConfig, get_peft_model
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger
from transformers import LlamaConfig, LlamaForCausalLM

from musician.data.rendering.render import Renderer
from musician.data.rendering.tokenizer import byte_tokenizer
from musician.data.sources.source import RowSource
from musician.model.optimizer import adamw
from musician.model.schedule import WarmupCosine
from musician.training.callbacks.checkpoints import Checkpoints
from musician.training.callbacks.metrics import StepMetrics
from musician.training.datamodule import TokenDataModule
from musician.training.module import PretrainModule

REPOSITORY = Path(__file__).parents[2]
ADAMW = partial(adamw, lr=1e-2)
COSINE = WarmupCosine(0.2)


def write_tunes(folder, count=60):
    """Documents of many lengths."""
    chance = random.Random(0)
    lines = []
    for index in range(count):
        notes = "".join(chance.choice("ABCDEFGabcdefg|2 ") for _ in range(chance.randint(2, 40)))
        lines.append(f'{{"text": "X:{index} K:G {notes}"}}\n')
    (folder / "tunes.jsonl").write_text("".join(lines))
    return folder


def data(tunes, micro=1, batch=4, rows=14, **changes):
    """14 rows in global batches of 4: the last batch of an epoch is smaller."""
    renderer = Renderer(byte_tokenizer(), "human_assistant")
    source = RowSource(str(tunes / "tunes.jsonl"))
    values = {"max_length": 64, "validation_fraction": 0.25, "limit_train_rows": rows, "limit_val_rows": 5, "seed": 3}
    module = TokenDataModule(renderer, source, root=tunes / "data", **{**values, **changes})
    module.schedule_work(batch, micro)
    return module


def llama(scale=0.1, **changes):
    """A random Llama over bytes, always the same."""
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(
        **{
            "vocab_size": 259,
            "num_key_value_heads": 1,
            "initializer_range": scale,
            "use_cache": False,
            **sizes,
            **changes,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config).float().train()


def adapted(dropout=0.0, **changes):
    """The same with an adapter."""
    config = LoraConfig(
        r=4, target_modules=["q_proj", "down_proj"], lora_dropout=dropout, task_type="CAUSAL_LM", **changes
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return get_peft_model(llama(), config)


class Remember(Logger):
    """Keeps what is logged."""

    name, version = "remember", 0

    def __init__(self):
        super().__init__()
        self.entries = []

    def log_metrics(self, metrics, step=None):
        self.entries.append((step, dict(metrics)))

    def log_hyperparams(self, *_, **__):
        pass

    def column(self, key):
        return [values[key] for _, values in self.entries if key in values]


class Interrupted(BaseException):
    """Not an error that anyone handles: as good as a kill."""


class StopAt(Callback):
    """Dies before the micro-batch that would begin after so many steps."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            raise Interrupted


@dataclass
class Run:
    """What a fit leaves."""

    trainer: lightning.Trainer
    module: lightning.LightningModule
    log: Remember

    def weights(self):
        return {n: p.detach().clone() for n, p in self.module.named_parameters() if p.requires_grad}


#: Options of a Trainer that logs every step and says nothing else.
QUIET = {
    "log_every_n_steps": 1,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "enable_progress_bar": False,
    "use_distributed_sampler": False,
}


def fit(
    tunes,
    folder=None,
    *,
    network=None,
    micro=1,
    batch=4,
    rows=14,
    epochs=1,
    optimizer=ADAMW,
    schedule=COSINE,
    callbacks=(),
    seed=7,
    clip=1.0,
    resume=None,
    every_n_steps=None,
    keep=1,
    monitor="val/loss",
    nonfinite=None,
    devices=1,
    **trainer_options,
):
    """Train the toy as the command does; checkpoints go to `folder` where there is one."""
    torch.manual_seed(seed)
    datamodule, log = data(tunes, micro, batch, rows), Remember()
    network = adapted() if network is None else network
    module = PretrainModule(network, optimizer, schedule, nonfinite)
    torch.manual_seed(seed)
    callbacks = [StepMetrics(), *callbacks]
    if folder is not None:
        tokenizer = datamodule.renderer.tokenizer
        options = {"every_n_steps": every_n_steps, "keep": keep, "monitor": monitor}
        callbacks.append(Checkpoints(folder, tokenizer, {"name": "toy"}, **options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=devices,
            max_epochs=epochs,
            accumulate_grad_batches=batch // micro // devices,
            gradient_clip_val=clip,
            **{"enable_checkpointing": folder is not None, **QUIET, **trainer_options},
            callbacks=callbacks,
            logger=log,
        )
        run = Run(trainer, module, log)
        try:
            trainer.fit(module, datamodule, ckpt_path=resume, weights_only=False)
        except Interrupted:
            return run
    return run


class CommandLine:
    """`python -m musician.train +experiment=smoke`, with data that is prepared once."""

    def __init__(self, folder, environment):
        self.folder, self.environment, self._done = folder, environment, {}

    def command(self, name, *overrides):
        return [
            *(forked_python(), "-m", "musician.train", "+experiment=smoke", "logger=[csv]"),
            *(f"hydra.run.dir={self.folder / name}", f"data.root={self.folder / 'data'}", *overrides),
        ]

    def start(self, name, *overrides):
        """Start a run and do not wait."""
        options = {"cwd": REPOSITORY, "env": self.environment, "text": True}
        return subprocess.Popen(
            self.command(name, *overrides), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
        )

    def __call__(self, name, *overrides, ok=True):
        """Run to the end; a name that already ran is not run again."""
        key = (name, overrides)
        if key not in self._done:
            process = self.start(name, *overrides)
            output, _ = process.communicate(timeout=300)
            self._done[key] = process.returncode, output
        code, output = self._done[key]
        assert (code == 0) is ok, output[-3000:]
        return self.folder / name, output


def run_jobs(folder, jobs, timeout=800):
    """Run jobs, as (name, ranks, overrides), in `folder/NAME` one after another; see forked_jobs.py."""
    done = subprocess.run(
        [forked_python(), str(Path(__file__).with_name("forked_jobs.py")), str(folder), json.dumps(jobs)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def column(run, key):
    """A metric of a run directory's CSV log, in order."""
    with (run / "csv" / "metrics.csv").open(newline="") as stream:
        return [float(row[key]) for row in csv.DictReader(stream) if row.get(key)]
