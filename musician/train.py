"""Train: `python -m musician.train +experiment=sft hardware=8xv100`; `--help` lists groups and examples."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from musician.cli.entry import build_selected, command, in_sweep, is_child_rank, pin_ranks, save_job
from musician.cli.job import build_job, build_trainer, check_hardware, describe

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from musician.runtime.hardware import Hardware
    from musician.training.runs.record import RunDirectory
    from musician.training.runs.summary import RunSummary


def main() -> None:
    """Run the command; a sweep is summed up when it ends."""
    from musician.cli.sweep_jobs import summed_up

    with summed_up():
        train()


@command("train")
def train(cfg: DictConfig) -> float | None:
    """Check, build, fit; return the metric that a sweep minimises."""
    if Path(cfg.model.name_or_path).is_dir():
        cfg.model.name_or_path = str(Path(cfg.model.name_or_path).resolve())  # a checkpoint remembers it
    if in_sweep():
        from musician.cli.sweep_jobs import run_job

        return run_job("musician.train", cfg)
    hardware = check_hardware(cfg)

    from musician.training.runs.record import RunDirectory
    from musician.training.runs.resume import find_state, read_record
    from musician.training.slurm import check_tasks

    check_tasks(hardware.devices)
    resume = find_state(cfg.ckpt_path, cfg.output_dir)
    before = read_record(resume) if resume is not None else None
    check_resume(cfg, before, {"config": OmegaConf.to_container(cfg, resolve=True)})
    if resume is not None:
        check_layout(cfg, resume / "state.ckpt", hardware.world_size)
    run = None if is_child_rank() else RunDirectory(cfg.output_dir, resume=cfg.ckpt_path is not None)
    try:
        return fit(cfg, hardware, resume, before, run)
    finally:
        if run is not None:
            run.release()


def fit(
    cfg: DictConfig, hardware: Hardware, resume: Path | None, before: dict[str, Any] | None, run: RunDirectory | None
) -> float | None:
    """Build the parts from their nodes and train."""
    from musician.model.lora import count_parameters
    from musician.training.checkpoint_layout import accept_any_layout
    from musician.training.loggers.dashboard import log_adapter
    from musician.training.runs.failures import failures_in_one_line
    from musician.training.runs.summary import summarise

    pin_ranks("musician.train")
    benchmarks = build_selected(cfg.get("benchmark") or {})
    job = build_job(cfg, hardware)
    if job.module.nll.not_folded:
        say(f"hardware.fold_lora: transformers' layers are used, {job.module.nll.not_folded}")
    parameters = count_parameters(job.module.network)  # before a strategy shards them
    facts = describe(cfg, job)
    check_resume(cfg, before, facts)
    loggers = list(build_selected(cfg.get("logger") or {}).values())
    trainer = build_trainer(cfg, job, build_callbacks(cfg, benchmarks, job.renderer, facts), loggers)
    if run is not None:
        record(cfg, run, facts, parameters, trainer.loggers, resume)
    if cfg.validate_at_start and resume is None:
        validate_at_start(trainer, job.module, job.datamodule)
    state = None if resume is None else str(resume / "state.ckpt")
    accept_any_layout(trainer, job.module)
    with failures_in_one_line(Path(cfg.output_dir)):
        trainer.fit(job.module, job.datamodule, ckpt_path=state, weights_only=False)
    summary = summarise(trainer, cfg.objective, parameters)
    if run is not None and not trainer.interrupted:
        log_adapter(trainer.loggers, run.path)
        if job.module.validation is not None and "val/loss" in summary.metrics:
            job.module.validation.write(run.path)
        summary.write(run.path)
    return finish(summary)


def check_resume(cfg: DictConfig, before: dict[str, Any] | None, now: dict[str, Any]) -> None:
    """Refuse other science than that of the run that continues, or say that it was asked for."""
    from musician.training.runs.resume import check_unchanged

    changes = None if before is None else check_unchanged(before, now, cfg.allow_changed_config)
    if changes:
        say(f"continues with another config: {changes}")


def check_layout(cfg: DictConfig, state: Path, world_size: int) -> None:
    """Say what goes on, and what does not, where other processes wrote the state than will read it."""
    from musician.training.checkpoint_layout import Layout, describe_change, layout_of

    before, now = layout_of(state), Layout(OmegaConf.select(cfg, "hardware.strategy.stage"), world_size)
    if before != now:
        say(describe_change(before, now))


def record(
    cfg: DictConfig,
    run: RunDirectory,
    facts: dict[str, Any],
    parameters: tuple[int, int],
    loggers: list[Any],
    resume: Path | None,
) -> None:
    """Write down how the run came about, and say where."""
    save_job(run.path)
    OmegaConf.save(cfg, run.path / ".hydra" / "config.yaml")
    config = OmegaConf.to_container(cfg, resolve=True)
    resumed = None if resume is None else str(resume)
    content = run.record(config=config, overrides=list(hydra_overrides()), resumed_from=resumed, **facts)
    say(f"run: {run.path}")
    if resume is not None:
        say(f"continues: {resume}")
    say("trainable weights: {:,} of {:,}".format(*parameters))
    for logger in loggers:
        logger.log_hyperparams(content)


def build_callbacks(cfg: DictConfig, benchmarks: dict[str, Any], renderer: Any, facts: dict[str, Any]) -> list[Any]:
    """Instantiate the callbacks; those left partial get what only a run knows."""
    known = {
        "evaluations": {"benchmarks": benchmarks, "renderer": renderer},
        "checkpoints": {"tokenizer": renderer.tokenizer, "description": facts},
        "samples": {"write": partial(answer, renderer)},
    }
    callbacks = build_selected(cfg.get("callbacks") or {})
    return [callback(**known[name]) if name in known else callback for name, callback in callbacks.items()]


def answer(renderer: Any, network: Any, prompt: str, sampling: Any) -> str:
    """Return what a network answers, as musician.generate does."""
    from musician.data.rendering.conversation import Message
    from musician.generation.stream import stream

    return "".join(stream(network, renderer, [Message("user", prompt)], sampling))


def validate_at_start(trainer: Trainer, module: Any, datamodule: Any) -> None:
    """Measure and log val/loss before the first step."""
    found = trainer.validate(module, datamodule, verbose=False)
    for logger in trainer.loggers:
        logger.log_metrics(dict(found[0]) if found else {}, step=0)


def finish(summary: RunSummary) -> float | None:
    """Say how the run ended; return the objective's last value."""
    if summary.stopped:
        say(f"stopped early: {summary.stopped}")
    shown = {name: value for name, value in summary.metrics.items() if not name.startswith("eval/")}
    end = "pruned" if summary.pruned else "finished"
    say(f"{end} at step {summary.step}: " + ", ".join(f"{name} {value:.4g}" for name, value in shown.items()))
    return summary.value


def hydra_overrides() -> list[str]:
    """What the command line changed."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task)


def say(message: str) -> None:
    """Print on rank 0."""
    if not is_child_rank():
        print(message, flush=True)


if __name__ == "__main__":
    main()
