"""Two CPU ranks of ZeRO, one of which makes a bad gradient, at each stage and policy. test_nonfinite.py starts it.

Arguments: a folder with tunes, and a file for what was found.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

from musician.model.network import gathered
from musician.runtime.errors import UserError
from musician.training.callbacks.nonfinite import NonFinite
from musician.training.strategy import ZeroStrategy
from training.forked import import_deepspeed, run_ranks
from training.test_nonfinite import LAYER, Poison
from training.toys import adapted, data, fit

CASES = [(1, "stop"), (1, "skip"), (2, "skip"), (3, "stop"), (3, "skip")]
#: The second micro-batch of the second step, on rank 1.
BAD = 3


class OnRankOne(Poison):
    """Spoils what rank 1 computes."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        super().on_train_batch_start(trainer, module, batch, batch_idx if trainer.global_rank == 1 else -1)


def train(tunes, stage, policy):
    nonfinite, said = NonFinite(policy), io.StringIO()
    options = {"devices": 2, "strategy": ZeroStrategy(stage=stage, persistence_threshold=0), "nonfinite": nonfinite}
    try:
        with contextlib.redirect_stderr(said):
            done = fit(tunes, network=adapted(), callbacks=[OnRankOne(LAYER, BAD, backward=True)], **options)
    except UserError as error:
        return {"error": str(error)}
    with gathered(list(done.module.parameters())):
        weights = {name: weight.flatten().tolist() for name, weight in done.weights().items()}
    found = {
        "weights": weights,
        "rates": done.log.column("train/lr"),
        "skipped": done.log.column("train/skipped_steps"),
        "steps": done.trainer.global_step,
    }
    return found | {"error": None, "left_out": nonfinite.skipped, "said": said.getvalue()}


def main(tunes, out):
    import_deepspeed()
    data(tunes).setup()
    found = {}
    for stage, policy in CASES:
        ranks, codes = run_ranks(2, train, tunes, stage, policy)
        found[f"{stage} {policy}"] = {"ranks": ranks, "codes": codes}
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
