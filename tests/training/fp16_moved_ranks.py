"""An fp16 run whose loss scale other processes carry on; writes what each step did. test_layout.py starts it.

Arguments: a folder with tunes, and a file for what was found, beside which checkpoints go.
"""

import json
import sys
from pathlib import Path

from deepspeed.accelerator import get_accelerator
from pytorch_lightning.callbacks import Callback

from musician.training.strategy import ZeroStrategy
from training.forked import import_deepspeed, run_ranks
from training.test_nonfinite import LAYER, Poison
from training.toys import adapted, data, fit

#: Steps whose gradients are made to overflow: by DeepSpeed's hysteresis the second lowers the scale.
BAD = (1, 2)
#: Where the whole run is left, in the middle of a window of the scale.
LEFT_AT = 7
MOVES = {"one": (1, 2), "stage 3": (2, 3)}


class Scales(Callback):
    """The loss scale after each step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, *_):
        if (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.seen.append(trainer.model.optimizer.loss_scale)


def train(tunes, folder, devices, stage, resume=None):
    scales = Scales()
    strategy = ZeroStrategy(stage=stage, initial_scale_power=6, loss_scale_window=4)
    options = {"devices": devices, "strategy": strategy, "precision": "16-mixed", "network": adapted()}
    done = fit(
        *(tunes, folder),
        **{**options, "batch": 2, "rows": 24, "every_n_steps": LEFT_AT, "keep": 3, "resume": resume},
        callbacks=[scales, Poison(LAYER, () if resume else BAD, backward=True)],
        limit_val_batches=0,
    )
    columns = {name: done.log.column(f"train/{name}") for name in ("loss", "lr", "skipped_steps")}
    return columns | {"scales": scales.seen, "dtype": str(next(done.module.parameters()).dtype)}


def main(tunes, out):
    folder = out.parent
    import_deepspeed()
    get_accelerator().is_fp16_supported = lambda: True  # slow, not impossible
    data(tunes, batch=2).setup()
    found = {"whole": run_ranks(2, train, tunes, folder / "whole", 2, 2)}
    state = str(folder / "whole" / f"step-{LEFT_AT:06d}" / "state.ckpt")
    for name, (devices, stage) in MOVES.items():
        found[name] = run_ranks(devices, train, tunes, folder / name, devices, stage, state)
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
