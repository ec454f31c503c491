"""Train: `python -m musician.train +experiment=sft hardware=8xv100`; `--help` lists groups and examples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from musician.launch import build_selected, door, is_child_rank, pin_ranks, save_job

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from musician.training.datamodule import TokenDataModule


@door("train")
def main(cfg: DictConfig) -> float | None:
    """Check, build, fit; return the metric that a sweep minimises."""
    hardware = instantiate(cfg.hardware, _convert_="all")
    hardware.check()
    accumulation = hardware.accumulation_steps(cfg.global_batch_size)

    from musician.training.record import RunDirectory

    if Path(cfg.model.name_or_path).is_dir():
        cfg.model.name_or_path = str(Path(cfg.model.name_or_path).resolve())  # a checkpoint remembers it
    resume = resolve_resume(cfg.ckpt_path)
    run = None if is_child_rank() else RunDirectory(cfg.output_dir, resume=resume is not None)
    try:
        return fit(cfg, hardware, accumulation, resume, run)
    finally:
        if run is not None:
            run.release()


def fit(cfg: DictConfig, hardware: Any, accumulation: int, resume: Any, run: Any) -> float | None:
    """Build the parts from their nodes and train."""
    from pytorch_lightning import seed_everything

    from musician.model.lora import attach_lora, count_parameters
    from musician.model.network import check_vocabulary

    seed_everything(cfg.seed, workers=True, verbose=False)
    pin_ranks("musician.train")

    tokenizer = instantiate(cfg.model.tokenizer)
    renderer = instantiate(cfg.model.renderer, tokenizer=tokenizer)
    datamodule = instantiate(cfg.data, renderer=renderer)
    datamodule.schedule_work(
        cfg.global_batch_size, hardware.micro_batch_size, hardware.workers_per_rank, hardware.accelerator == "gpu"
    )
    datamodule.setup()
    benchmarks = build_selected(cfg.get("benchmark") or {})

    network = instantiate(cfg.model.network)
    check_vocabulary(network, tokenizer)
    lora = build_selected({"lora": cfg.get("lora") or {}}).get("lora")
    network = attach_lora(network, lora, fused=hardware.fused_lora)
    module = instantiate(cfg.module, network=network, optimizer=instantiate(cfg.optimizer))
    facts = describe(cfg, renderer, datamodule)
    trainer = instantiate(
        cfg.trainer,
        accumulate_grad_batches=accumulation,
        callbacks=build_callbacks(cfg, benchmarks, renderer, facts),
        logger=list(build_selected(cfg.get("logger") or {}).values()),
    )
    if run is not None:
        save_job(run.path)
        OmegaConf.save(cfg, run.path / ".hydra" / "config.yaml")
        config = OmegaConf.to_container(cfg, resolve=True)
        record = run.record(config=config, overrides=list(hydra_overrides()), **facts)
        say(f"run: {run.path}")
        say("trainable weights: {:,} of {:,}".format(*count_parameters(network)))
        for logger in trainer.loggers:
            logger.log_hyperparams(record)

    if cfg.validate_at_start and resume is None:
        validate_at_start(trainer, module, datamodule)
    trainer.fit(module, datamodule, ckpt_path=resume, weights_only=False)
    return finish(trainer, cfg.objective)


def resolve_resume(ckpt_path: str | None) -> str | None:
    """Lightning's state file of the checkpoint that a user means; the last one of a run directory."""
    if ckpt_path is None:
        return None
    from musician.model.checkpoint import resolve_checkpoint

    last = Path(ckpt_path).expanduser() / "checkpoints" / "last"
    return str(resolve_checkpoint(last if last.exists() else ckpt_path) / "state.ckpt")


def build_callbacks(cfg: DictConfig, benchmarks: dict[str, Any], renderer: Any, facts: dict[str, Any]) -> list[Any]:
    """Instantiate the callbacks; those left partial get what only a run knows."""
    known = {
        "evaluations": {"benchmarks": benchmarks, "renderer": renderer},
        "checkpoints": {"tokenizer": renderer.tokenizer, "description": facts},
    }
    callbacks = build_selected(cfg.get("callbacks") or {})
    return [callback(**known[name]) if name in known else callback for name, callback in callbacks.items()]


def describe(cfg: DictConfig, renderer: Any, datamodule: TokenDataModule) -> dict[str, Any]:
    """Facts that the run record and every checkpoint carry."""
    from musician.data.canary import canaries
    from musician.data.tokenizer import tokenizer_hash

    return {
        "name": cfg.name,
        "recipe": cfg.recipe.name,
        "base_model": cfg.model.name_or_path,
        "model": OmegaConf.to_container(cfg.model, resolve=True),
        "data_key": datamodule.data.key,
        "data_path": str(datamodule.data.directory),
        "tokenizer_hash": tokenizer_hash(renderer.tokenizer),
        "template": renderer.template.name,
        "canaries": canaries(renderer),
    }


def validate_at_start(trainer: Trainer, module: Any, datamodule: Any) -> None:
    """Measure and log val/loss before the first step."""
    found = trainer.validate(module, datamodule, verbose=False)
    for logger in trainer.loggers:
        logger.log_metrics(dict(found[0]) if found else {}, step=0)


def finish(trainer: Trainer, objective: str | None) -> float | None:
    """Say how the run ended; return the objective's last value."""
    metrics = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
    if trainer.is_global_zero:
        say(f"finished at step {trainer.global_step}: " + ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
    return metrics.get(objective) if objective else None


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
