"""One step of plain SGD under ZeRO-2 on two CPU processes; rank 0 writes what it found. Started by test_strategy.py."""

import copy
import json
import sys
from pathlib import Path

import pytorch_lightning as lightning
import torch

from musician.model.schedule import Constant
from musician.training.callbacks.metrics import StepMetrics
from musician.training.module import PretrainModule
from musician.training.strategy import ZeroStrategy
from training.test_module import documents_of_step, mean_nll
from training.toys import QUIET, Remember, data, llama


def main(tunes, out):
    torch.set_num_threads(1)
    datamodule, log, network = data(tunes), Remember(), llama(scale=0.6)
    datamodule.setup()
    twin = copy.deepcopy(network)
    total, predicted = mean_nll(twin, documents_of_step(datamodule, 0))
    (total / predicted).backward()
    planted = float(torch.stack([p.grad.norm() for p in twin.parameters()]).norm())
    module = PretrainModule(network, lambda n: torch.optim.SGD(n.parameters(), lr=1.0), Constant())
    strategy = ZeroStrategy(stage=2, micro_batch_size=1)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        max_steps=1,
        accumulate_grad_batches=2,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        enable_checkpointing=False,
        **QUIET,
        callbacks=[StepMetrics()],
        logger=log,
    )
    trainer.fit(module, datamodule)
    if trainer.is_global_zero:
        pairs = zip(module.network.parameters(), llama(scale=0.6).parameters(), strict=True)
        update = float(torch.stack([(after.detach() - before).norm() for after, before in pairs]).norm())
        engine = trainer.model
        found = {
            "world_size": trainer.world_size,
            "planted": planted,
            "update": update,
            "grad_norm": log.column("train/grad_norm"),
            "config": strategy.config,
            "stage": engine.zero_optimization_stage(),
            "accumulation": engine.gradient_accumulation_steps(),
            "clipping": engine.gradient_clipping(),
        }
        out.write_text(json.dumps(found, default=str))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
