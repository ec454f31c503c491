"""From a fresh machine to a trained, evaluated music model: `make demo`."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.utils import to_absolute_path
from omegaconf import DictConfig

from musician.cli.entry import command


@command("demo")
def main(cfg: DictConfig) -> None:
    """Run each stage in a process of its own, then report."""
    from musician.training.runs.report import Report

    output = Path(to_absolute_path(cfg.output_dir))
    pretrain, sft = output / "pretrain", output / "sft"
    started = time.monotonic()
    train("1/5 continual pre-training on real tunes", "demo_pretrain", pretrain, cfg.budget.pretrain)
    run_command("2/5 merging the pre-trained model", "merge", f"model={pretrain}")
    start = f"model.name_or_path='{pretrain / 'merged'}'"
    train("3/5 instruction tuning on tasks made from tunes", "demo_sft", sft, [start, *cfg.budget.sft])
    run_command("4/5 merging the tuned model", "merge", f"model={sft}")
    print_title("5/5 asking for a tune")
    tune, constrained = ask(sft / "merged", cfg.prompt, cfg.budget.max_new_tokens, {**cfg.tune, **cfg.budget.tune})
    seconds = time.monotonic() - started
    report = Report.of(pretrain, sft, prompt=cfg.prompt, tune=tune, constrained=constrained, seconds=seconds)
    report.write(output)
    report.show(output)


def train(title: str, experiment: str, directory: Path, overrides: Iterable[str]) -> None:
    """Run an experiment in a directory of its own."""
    run_command(title, "train", f"+experiment={experiment}", f"hydra.run.dir='{directory}'", *overrides)


def run_command(title: str, module: str, *arguments: str) -> None:
    """Run a command as a user would, its output passing through.

    Raises:
        UserError: it failed; its own message is above.
    """
    from musician.runtime.errors import UserError

    print_title(title)
    done = subprocess.run([sys.executable, "-m", f"musician.{module}", *arguments], check=False)
    if done.returncode:
        command = f"python -m musician.{module} {shlex.join(arguments)}"
        raise UserError(f"the demo stopped at '{title}' (exit status {done.returncode}); run it alone: {command}")


def ask(model: Path, prompt: str, max_new_tokens: int, constraints: dict[str, Any]) -> tuple[str, str]:
    """Return the tunes that the tuned model writes: freely, and under the grammar with these constraints."""
    from musician.data.rendering.conversation import Message
    from musician.generation.constraint import answer_constraint
    from musician.generation.forward import prepare
    from musician.generation.sampling import Sampling
    from musician.generation.stream import stream
    from musician.lm.open_model import open_model
    from musician.music.grammar import TuneConstraints

    opened = open_model(str(model))
    sampling = Sampling(temperature=0.7, max_new_tokens=max_new_tokens)
    asked = [Message("user", prompt)]
    grammar = answer_constraint(opened.renderer, TuneConstraints(**constraints))
    forward = prepare(opened.merged())
    free = "".join(stream(forward, opened.renderer, asked, sampling))
    return free, "".join(stream(forward, opened.renderer, asked, sampling, grammar))


def print_title(title: str) -> None:
    """Print a heading."""
    print(f"\n== {title}", flush=True)


if __name__ == "__main__":
    main()
