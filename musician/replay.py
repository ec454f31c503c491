"""Take a step of a run again and look into it: `python -m musician.replay outputs/sft/RUN 7`."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from musician.cli.entry import command
from musician.cli.tables import print_table
from musician.runtime.atomic import write_text
from musician.runtime.errors import UserError
from musician.training.runs.summary import read_summary

if TYPE_CHECKING:
    from musician.cli.job import Job
    from musician.training.runs.replay import Step, StepReplay

#: Callbacks of the run that draw random numbers or show progress; no other one counts.
CALLBACKS = ("step_metrics", "progress")


@command("replay", words=("run", "step"))
def main(cfg: DictConfig) -> None:
    """Find, build, train forward, show, write."""
    from musician.cli.job import build_job
    from musician.training.callbacks.randomness import RanksInTurn
    from musician.training.runs.replay import StepReplay, find_start

    run, step, output = check_request(cfg)
    record = json.loads((run / "run.json").read_text())
    job_config, ranks, notes = one_process(run, record, output)
    start = find_start(run, step, record.get("resumed_from"))
    if start is None:
        notes.append(f"no checkpoint to begin with before step {step}: trains from the start of the run")
    for note in notes:
        print(f"note: {note}")
    print(f"run: {run}\nbegins: {start or 'at the start'}", flush=True)
    watch = StepReplay(step)
    job = build_job(job_config, [RanksInTurn(ranks), watch])
    check_facts(job, record)
    taken, stopped = take_step(job, watch, start)
    if taken is None or not taken.micro_batches:
        raise UserError(stopped or f"replay: the run ended before step {step}")
    content = compared(run, taken) | {"run": str(run), "start": start and str(start), "notes": notes}
    write(output / f"replay-step-{step:06d}.json", {**content, "stopped": stopped, **asdict(taken)})
    show(taken, content["log"], cfg.rows, cfg.characters)
    if stopped is not None:
        print(f"the step was not finished: {stopped}")
    print(f"replay: {output / f'replay-step-{step:06d}.json'}")


def check_request(cfg: DictConfig) -> tuple[Path, int, Path]:
    """The run directory, the step and the output directory that are asked for.

    Raises:
        UserError: not given, not there, beyond the end of a finished run, or output inside the run.
    """
    if cfg.run is None or cfg.step is None:
        raise UserError("replay: give a run and a step: python -m musician.replay outputs/sft/RUN 7")
    run, output = Path(cfg.run).expanduser(), Path(cfg.output_dir).expanduser()
    if not (run / "run.json").is_file() or not (run / ".hydra" / "config.yaml").is_file():
        raise UserError(f"replay: {run} is not a run directory of musician.train (no run.json and .hydra/config.yaml)")
    if not str(cfg.step).isdigit() or int(cfg.step) < 1:
        raise UserError(f"replay: step={cfg.step} is not a step; they count from 1")
    summary = read_summary(run)
    if summary is not None and int(cfg.step) > summary.step:
        raise UserError(f"replay: step={cfg.step} is beyond the end; the run has {summary.step} steps")
    if output.resolve().is_relative_to(run.resolve()):
        raise UserError(f"replay: output_dir={output} is inside the run, in which nothing is written; choose another")
    return run, int(cfg.step), output


def one_process(run: Path, record: dict[str, Any], output: Path) -> tuple[DictConfig, int, list[str]]:
    """The config of a run for this process alone, how many it had, and what that changes, in words."""
    import torch

    cfg = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert isinstance(cfg, DictConfig)
    OmegaConf.set_struct(cfg, False)
    hardware, notes = cfg.hardware, []
    ranks = hardware.devices * hardware.num_nodes
    if ranks > 1:
        notes.append(f"the run had {ranks} processes: this one takes their micro-batches and random states in turn")
    absent = hardware.accelerator == "gpu" and not torch.cuda.is_available()
    if absent or hardware.precision == "16-mixed":
        why = "no GPU here, so dropout differs" if absent else "fp16's loss scale lives in DeepSpeed"
        notes.append(f"computes in fp32 instead of {hardware.precision}: {why}")
        hardware.precision, hardware.dtype = "32-true", "float32"
    if absent:
        hardware.accelerator, hardware.attn_implementation = "cpu", "sdpa"
    hardware.devices = hardware.num_nodes = 1
    hardware.strategy, hardware.num_workers = "auto", 0
    cfg.update(output_dir=str(output), ckpt_path=None, validate_at_start=False, logger={}, benchmark={})
    cfg.callbacks = {name: node for name, node in (cfg.get("callbacks") or {}).items() if name in CALLBACKS}
    cfg.trainer.update(enable_checkpointing=False, limit_val_batches=0)
    if "path" in cfg.data and Path(record["data_path"]).is_dir():
        cfg.data.path = record["data_path"]
    return cfg, ranks, notes


def check_facts(job: Job, record: dict[str, Any]) -> None:
    """Refuse data, a tokenizer or a template that are no longer those of the run.

    Raises:
        UserError: naming them.
    """
    from musician.training.runs.resume import FACTS

    changed = [f"{fact}: {record[fact]} -> {job.facts[fact]}" for fact in FACTS if record[fact] != job.facts[fact]]
    if changed:
        raise UserError(f"replay: no longer what the run trained with: {'; '.join(changed)}")


def take_step(job: Job, watch: StepReplay, start: Path | None) -> tuple[Step | None, str | None]:
    """Train forward to the end of a step; what it did, and why it could not be finished where it could not."""
    # The callbacks whose states a checkpoint holds as well are left out on purpose.
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")
    state = None if start is None else str(start / "state.ckpt")
    try:
        job.trainer.fit(job.module, job.datamodule, ckpt_path=state, weights_only=False)
    except UserError as error:
        if watch.found is None:
            raise
        return watch.found, str(error)
    return watch.found, None


def compared(run: Path, step: Step) -> dict[str, Any]:
    """Return what the run logged of a step, and whether it is the same: `log.train/loss.verdict`."""
    from musician.training.runs.replay import logged, verdict

    before = logged(run, step.step)
    rate = step.learning_rates[0]
    values = {"train/loss": step.loss, "train/lr": rate, "train/grad_norm": step.gradient_norm}
    return {
        "log": {
            name: {"replayed": value, "logged": before.get(name), "verdict": verdict(value, before.get(name))}
            for name, value in values.items()
        }
    }


def write(file: Path, content: dict[str, Any]) -> None:
    """Write the step for other programs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(content, indent=2) + "\n")


def show(step: Step, log: dict[str, Any], rows: int, characters: int) -> None:
    """Print the rows, the layers and the numbers of a step."""
    show_rows(step, rows, characters)
    show_layers(step)
    for name, entry in log.items():
        value = "-" if entry["replayed"] is None else f"{entry['replayed']:.9g}"
        print(f"  {name:16} {value:>14}  {entry['verdict']}")


def show_rows(step: Step, rows: int, characters: int) -> None:
    """Print the table of the micro-batches; a row's text in one line."""
    lines = []
    for number, micro in enumerate(step.micro_batches):
        loss = "-" if micro["loss"] is None else f"{micro['loss']:.4f}"
        for row in micro["rows"]:
            text = repr(row["text"] if len(row["text"]) <= characters else row["text"][: characters - 3] + "...")
            first, *others = row["documents"]
            documents = f"{first} and {len(others)} more" if others else str(first)
            lines.append((number, loss, documents, f"{row['tokens']:,}", f"{row['supervised']:,}", text))
    title = f"step {step.step}, epoch {step.epoch}: what it trained on"
    columns = ("micro-batch", "loss", "documents", "tokens", "supervised", "text")
    print_table(title, columns, lines[:rows], left=("text",))
    if len(lines) > rows:
        print(f"  {len(lines) - rows} more rows: see the file, or rows={len(lines)}")


def show_layers(step: Step) -> None:
    """Print the table of the layers."""
    lines = []
    for layer in step.layers:
        gradient = "-" if layer["gradient_norm"] is None else f"{layer['gradient_norm']:.4g}"
        lines.append((layer["block"], layer["kind"], f"{layer['weights']:,}", f"{layer['weight_norm']:.4g}", gradient))
    columns = ("block", "kind", "weights", "norm of weights", "norm of gradients")
    title = "trained weights before the update, gradients before clipping"
    print_table(title, columns, lines, left=columns[:2])


if __name__ == "__main__":
    main()
