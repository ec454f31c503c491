"""When benchmarks run during training."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback

from musician.benchmarks.benchmark import Benchmark, Result
from musician.benchmarks.shard import RankFailed, Shard
from musician.data.rendering.render import Renderer
from musician.lm.language_model import LanguageModel
from musician.model.network import evaluating
from musician.runtime.errors import UserError, nearest
from musician.runtime.progress import show_line
from musician.training.ranks import exchange_objects
from musician.training.runs.results import EvaluationResults


class Evaluations(Callback):
    """Runs benchmarks before training, at epoch ends, every so many steps and at the end; logs `eval/<benchmark>/...`.

    The network in training is used as it is, LoRA attached, in evaluation mode; no second copy is made. A benchmark
    draws no random number, so training goes on as if it had not run. One that fails is reported, marked by
    `eval/<benchmark>/failed`, and left out: training goes on.

    Its figures are added to `trainer.callback_metrics`, with the step in `eval/<benchmark>/step`, for the callbacks
    that come after this one.

    Args:
        benchmarks: by name.
        renderer: the training's renderer.
        directory: where per-item records go, under `step-NNNNNN/`.
        every_n_epochs: run all benchmarks at the end of every so many epochs.
        every_n_steps: also run `step_benchmarks` every so many optimiser steps; None does not.
        step_benchmarks: names of the benchmarks that are cheap enough for that; None for all.
        at_start: also run all before the first step.
        time_budget: most seconds of one evaluation between the first and the last. A benchmark that took longer the
            last time than is left is skipped, and that is said; None for as long as they take.

    Raises:
        UserError: `step_benchmarks` names one that is not there, or a number that is not positive.
    """

    def __init__(
        self,
        benchmarks: Mapping[str, Benchmark],
        renderer: Renderer,
        directory: str | Path,
        every_n_epochs: int = 1,
        every_n_steps: int | None = None,
        step_benchmarks: Sequence[str] | None = None,
        at_start: bool = True,
        time_budget: float | None = None,
    ) -> None:
        for name, value in {"every_n_epochs": every_n_epochs, "every_n_steps": every_n_steps}.items():
            if value is not None and value < 1:
                raise UserError(f"callbacks.evaluations.{name}={value} must be at least 1")
        for name in step_benchmarks or ():
            if name not in benchmarks:
                raise UserError(
                    f"callbacks.evaluations.step_benchmarks: there is no benchmark '{name}'"
                    f"{nearest(name, benchmarks)}; this run has {sorted(benchmarks)}"
                )
        self.benchmarks = dict(benchmarks)
        self.renderer = renderer
        self.directory = Path(directory)
        self.every_n_epochs = every_n_epochs
        self.every_n_steps = every_n_steps
        self.step_benchmarks = tuple(self.benchmarks if step_benchmarks is None else step_benchmarks)
        self.at_start = at_start
        self.time_budget = math.inf if time_budget is None else time_budget
        #: Metrics and details of each evaluation so far, by step.
        self.history: dict[int, dict[str, float]] = {}
        #: How long each benchmark took the last time it ran.
        self.seconds: dict[str, float] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Score the model as it came."""
        if self.at_start and trainer.global_step == 0:
            self.run(trainer, pl_module)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *_: Any) -> None:
        """Score the model every so many optimiser steps; the end of an epoch waits for its validation."""
        done = trainer.fit_loop.batch_idx + 1
        at_boundary = done % trainer.accumulate_grad_batches == 0 and done < trainer.num_training_batches
        if self.every_n_steps and at_boundary and trainer.global_step % self.every_n_steps == 0:
            self.run(trainer, pl_module, self.step_benchmarks, self.time_budget)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Score the model at the end of an epoch; one that a sweep gives up is not worth the time."""
        if "pruned" in trainer.callback_metrics:
            return
        last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.should_stop
        if last or (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self.run(trainer, pl_module, budget=math.inf if last else self.time_budget)

    def state_dict(self) -> dict[str, Any]:
        """What was found so far."""
        return {"history": self.history, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what was found before."""
        self.history = state_dict["history"]
        self.seconds = state_dict["seconds"]

    def run(
        self, trainer: lightning.Trainer, module: Any, names: Sequence[str] | None = None, budget: float = math.inf
    ) -> None:
        """Run benchmarks now; every rank takes part.

        Args:
            trainer: whose step and loggers count.
            module: holds the network.
            names: of the benchmarks; None for all.
            budget: seconds.
        """
        shard = Shard(trainer.global_rank, trainer.world_size, exchange_objects)
        results = EvaluationResults(self.directory, trainer.global_step, self.history)
        model = LanguageModel(module.network, self.renderer, str(trainer.precision))
        for name in names or self.benchmarks:
            if self.seconds.get(name, 0.0) > budget:
                results.skipped.append(name)
                continue
            with evaluating(module.network):
                result = self._attempt(name, model, shard, results)
            if result is not None:
                budget -= self.seconds[name]
                results.add(result)
                logged = {**result.metrics(), f"eval/{name}/step": float(trainer.global_step)}
                trainer.callback_metrics.update({k: torch.tensor(v) for k, v in logged.items()})
        if shard.rank == 0:
            results.publish(trainer.loggers, module.device)
        self.history[trainer.global_step] = results.found

    def _attempt(self, name: str, model: LanguageModel, shard: Shard, results: EvaluationResults) -> Result | None:
        """Run one benchmark and keep its records; None where it failed on any rank."""
        started = time.perf_counter()
        try:
            result = self.benchmarks[name].run(model, shard)
            if shard.rank == 0:
                result.write(results.folder / result.benchmark)
            self.seconds[name] = shard.most(time.perf_counter() - started)
            return result
        except RankFailed as error:
            results.fail(name, str(error))
        except Exception as error:
            reason = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
            results.fail(name, reason)
            (results.folder / f"{name}_rank{shard.rank}_error.txt").write_text(traceback.format_exc())
            torch.cuda.empty_cache()
            shard.fail(reason)
        if shard.rank == 0:
            show_line(f"evaluation at step {results.step}: {results.failed[-1]}; training goes on", keep=True)
        return None
