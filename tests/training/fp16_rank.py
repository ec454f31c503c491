"""fp16 and DeepSpeed's loss scale on one CPU process; writes what each step did. test_strategy.py starts it."""

import json
import sys
from pathlib import Path

import pytorch_lightning as lightning
import torch
from deepspeed.accelerator import get_accelerator

from musician.runtime.errors import UserError
from musician.training.callbacks.metrics import StepMetrics
from musician.training.module import PretrainModule
from musician.training.strategy import ZeroStrategy
from training.toys import ADAMW, COSINE, QUIET, Remember, data, llama


class Watch(lightning.Callback):
    """Says after each step whether the weights moved."""

    def __init__(self):
        self.moved, self.before = [], None

    def on_train_batch_end(self, trainer, module, *_):
        now = torch.cat([p.detach().float().flatten() for p in module.parameters()])
        self.moved.append(self.before is None or not torch.equal(now, self.before))
        self.before = now

    def on_train_start(self, trainer, module):
        self.before = torch.cat([p.detach().float().flatten() for p in module.parameters()])


def main(tunes, out, stage, power, least):
    torch.set_num_threads(1)
    get_accelerator().is_fp16_supported = lambda: True  # slow, not impossible
    watch, log = Watch(), Remember()
    strategy = ZeroStrategy(stage=stage, initial_scale_power=power, min_loss_scale=least)
    module = PretrainModule(llama(), ADAMW, COSINE)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        strategy=strategy,
        precision="16-mixed",
        max_epochs=1,
        accumulate_grad_batches=1,
        limit_val_batches=0,
        enable_checkpointing=False,
        **QUIET,
        callbacks=[StepMetrics(), watch],
        logger=log,
    )
    found = {"error": None}
    try:
        trainer.fit(module, data(tunes, micro=1, batch=1, rows=12))
    except UserError as error:
        found["error"] = str(error)
    found |= {
        "moved": watch.moved,
        "rates": log.column("train/lr"),
        "skipped": log.column("train/skipped_steps"),
        "scale": trainer.model.optimizer.loss_scale,
        "config": strategy.config["fp16"],
        "dtype": str(next(module.parameters()).dtype),
    }
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *(int(argument) for argument in sys.argv[3:]))
