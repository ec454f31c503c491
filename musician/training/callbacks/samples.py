"""What the model writes while it is trained: the same few prompts again and again, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning.callbacks import Callback

from musician.data.rendering.conversation import Message
from musician.data.rendering.render import Renderer
from musician.generation.chunk import Forward
from musician.generation.forward import prepare
from musician.generation.sampling import Sampling
from musician.generation.stream import stream
from musician.lm.language_model import LanguageModel
from musician.runtime.atomic import write_text
from musician.runtime.errors import UserError
from musician.training.loggers.dashboard import log_table
from musician.training.runs.report import describe_tune

if TYPE_CHECKING:
    import pytorch_lightning as lightning


class Samples(Callback):
    """Answers prompts before training and at epoch ends, into `samples.jsonl` of the run and a table of W&B.

    Drawn with a seed of their own, the answers change nothing of the training; what changes between two of them is the
    model. Each is the answer that `musician.generate` would give.

    Args:
        renderer: the training's renderer.
        directory: of the run.
        prompts: what a user would say.
        sampling: how tokens are drawn.
        every_n_epochs: at the end of every so many epochs.
        at_start: also before the first step.

    Raises:
        UserError: there are no prompts, or `every_n_epochs` is not positive.
    """

    def __init__(
        self,
        renderer: Renderer,
        directory: str | Path,
        prompts: Sequence[str],
        sampling: Sampling,
        every_n_epochs: int = 1,
        at_start: bool = True,
    ) -> None:
        if not prompts or every_n_epochs < 1:
            raise UserError(
                f"callbacks.samples: prompts={list(prompts)} must hold one, every_n_epochs={every_n_epochs} be positive"
            )
        self.renderer = renderer
        self.file = Path(directory) / "samples.jsonl"
        self.prompts = tuple(prompts)
        self.sampling = sampling
        self.every_n_epochs = every_n_epochs
        self.at_start = at_start
        #: One for each step and prompt, in the order of time.
        self.rows: list[dict[str, Any]] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Let the model as it came write."""
        if self.at_start and trainer.global_step == 0:
            self.run(trainer, pl_module.network)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Let it write again."""
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self.run(trainer, pl_module.network)

    def state_dict(self) -> dict[str, Any]:
        """What it has written so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it."""
        self.rows = state_dict["rows"]

    def run(self, trainer: lightning.Trainer, network: Any) -> None:
        """Answer every prompt now; every rank takes part, as a sharded network wants, and rank 0 writes."""
        was_training = network.training
        network.eval()
        try:
            forward = prepare(LanguageModel(network, self.renderer, str(trainer.precision)))
            texts = [answer(forward, self.renderer, prompt, self.sampling) for prompt in self.prompts]
        finally:
            network.train(was_training)
        self.rows = [row for row in self.rows if row["step"] < trainer.global_step]
        for prompt, text in zip(self.prompts, texts, strict=True):
            self.rows.append({"step": trainer.global_step, "prompt": prompt, "text": text, "tune": describe_tune(text)})
        if trainer.is_global_zero:
            write_text(self.file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows))
            columns = list(self.rows[0])
            log_table(trainer.loggers, "samples", columns, [[row[name] for name in columns] for row in self.rows])


def answer(forward: Forward, renderer: Renderer, prompt: str, sampling: Sampling) -> str:
    """Return what a model answers, as `musician.generate` does."""
    return "".join(stream(forward, renderer, [Message("user", prompt)], sampling))
