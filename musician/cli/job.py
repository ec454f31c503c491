"""A training job, built from its config: the one place where a config becomes objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.loggers import Logger

from musician.cli.entry import build_selected
from musician.data.rendering.canary import canaries
from musician.data.rendering.render import Renderer
from musician.data.rendering.tokenizer import tokenizer_hash
from musician.model.lora import attach_lora, count_parameters
from musician.model.network import check_vocabulary
from musician.runtime.hardware import Hardware, best_precision
from musician.training.datamodule import TokenDataModule
from musician.training.module import CausalLMModule
from musician.training.runs.resume import check_unchanged, find_state, read_record
from musician.training.slurm import check_tasks
from musician.training.strategy import ZeroStrategy

#: Callbacks run in this order, whatever order the config names them in; others follow. What a callback reads from
#: `trainer.callback_metrics` was logged by an earlier one.
ORDER = ("step_metrics", "preemption", "evaluations", "early_stopping", "pruning", "samples", "checkpoints")


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that a run needs; nothing reads the config after it is built.

    Attributes:
        module: holds the network with its adapter.
        datamodule: set up, and cut for this hardware.
        callbacks: in the order in which they run.
        loggers: not started yet.
        trainer: with these callbacks and loggers.
        facts: what every checkpoint carries, and the record of the run.
        record: what the record of the run holds besides.
        composition: the files of `.hydra/` by name: what was composed, and from which overrides.
        parameters: trainable weights and all weights, counted before a strategy shards them.
        checkpoint: the one that the run continues from; None starts afresh.
        notes: what the user should know of it, in lines.
        objective: the metric that a sweep minimises.
        validate_at_start: measure `val/loss` before the first step.
        output_dir: the run directory.
    """

    module: CausalLMModule
    datamodule: TokenDataModule
    callbacks: Sequence[Callback]
    loggers: Sequence[Logger]
    trainer: Trainer
    facts: Mapping[str, Any]
    record: Mapping[str, Any]
    composition: Mapping[str, str]
    parameters: tuple[int, int]
    checkpoint: Path | None
    notes: Sequence[str]
    objective: str | None
    validate_at_start: bool
    output_dir: Path

    @property
    def state(self) -> str | None:
        """The file that Lightning continues from."""
        return None if self.checkpoint is None else str(self.checkpoint / "state.ckpt")


def build_job(cfg: DictConfig, callbacks: Iterable[Callback] = ()) -> Job:
    """Check a config, seed, prepare the data and build the network, its module and the trainer.

    Args:
        cfg: a config of `musician.train`.
        callbacks: run after those of the config.

    Raises:
        UserError: the machine is another, the parts do not fit each other, or the run that continues was made with
            another training configuration.
    """
    asked = cfg.hardware.precision
    hardware = check_hardware(cfg)
    check_tasks(hardware.devices)
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    checkpoint = find_state(cfg.ckpt_path, cfg.output_dir)
    earlier = read_record(checkpoint) if checkpoint else None
    why = best_precision("cpu")[1] if asked == "auto" else "set by hardware.precision"
    notes = [f"precision: {hardware.precision} ({why})", *_check_resume(cfg, earlier, {"config": config})]
    ranks = earlier["config"]["hardware"]["devices"] * earlier["config"]["hardware"]["num_nodes"] if earlier else None
    if ranks not in (None, hardware.world_size):
        notes.append(
            f"the state was written by {ranks} ranks, this job has {hardware.world_size}: weights, optimizer, schedule "
            "and order of the data are kept; dropout draws differ"
        )

    seed_everything(cfg.seed, workers=True, verbose=False)
    benchmarks = build_selected(cfg.get("benchmark") or {})
    renderer = instantiate(cfg.model.renderer, tokenizer=instantiate(cfg.model.tokenizer))
    datamodule = _build_data(cfg, hardware, renderer)
    module = _build_module(cfg, renderer)
    facts = _describe(cfg, datamodule, renderer)
    notes += _check_resume(cfg, earlier, facts)
    chosen = [*_build_callbacks(cfg.get("callbacks") or {}, benchmarks, renderer, facts), *callbacks]
    loggers = list(build_selected(cfg.get("logger") or {}).values())
    trainer = instantiate(
        cfg.trainer,
        strategy=_build_strategy(hardware),
        accumulate_grad_batches=hardware.accumulation_steps(cfg.global_batch_size),
        callbacks=chosen,
        logger=loggers,
    )
    return Job(
        module=module,
        datamodule=datamodule,
        callbacks=chosen,
        loggers=loggers,
        trainer=trainer,
        facts=facts,
        record={
            "config": config,
            "overrides": list(HydraConfig.get().overrides.task),
            "resumed_from": checkpoint and str(checkpoint),
        },
        composition=_composition(cfg),
        parameters=count_parameters(module.network),
        checkpoint=checkpoint,
        notes=notes,
        objective=cfg.objective,
        validate_at_start=cfg.validate_at_start and checkpoint is None,
        output_dir=Path(cfg.output_dir),
    )


def check_hardware(cfg: DictConfig) -> Hardware:
    """Return the machine of a job; where its precision is `auto`, the config gets the one that was chosen.

    Raises:
        UserError: it is not this one, or cannot cut up the global batch.
    """
    hardware: Hardware = instantiate(cfg.hardware, _convert_="all")
    hardware.check()
    hardware.accumulation_steps(cfg.global_batch_size)
    cfg.hardware.precision, cfg.hardware.dtype = hardware.precision, hardware.dtype
    return hardware


def _check_resume(cfg: DictConfig, earlier: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """Refuse another training configuration than that of the run that continues, or note that it was asked for."""
    changes = None if earlier is None else check_unchanged(earlier, now, cfg.allow_changed_config)
    return [f"continues with another config: {changes}"] if changes else []


def _build_data(cfg: DictConfig, hardware: Hardware, renderer: Renderer) -> TokenDataModule:
    datamodule: TokenDataModule = instantiate(cfg.data, renderer=renderer)
    datamodule.schedule_work(
        cfg.global_batch_size, hardware.micro_batch_size, hardware.workers_per_rank, hardware.accelerator == "gpu"
    )
    datamodule.setup()
    return datamodule


def _build_module(cfg: DictConfig, renderer: Renderer) -> CausalLMModule:
    network = instantiate(cfg.model.network)
    check_vocabulary(network, renderer.tokenizer)
    network = attach_lora(network, build_selected({"lora": cfg.get("lora") or {}}).get("lora"))
    module: CausalLMModule = instantiate(cfg.module, network=network, optimizer=instantiate(cfg.optimizer))
    return module


def _build_callbacks(
    nodes: DictConfig | Mapping[Any, Any], benchmarks: Mapping[str, Any], renderer: Renderer, facts: Mapping[str, Any]
) -> list[Callback]:
    """Instantiate the callbacks in their order; those left partial get what only a run knows."""
    built = build_selected(nodes)
    if "checkpoints" in built:
        built["checkpoints"] = built["checkpoints"](tokenizer=renderer.tokenizer, description=facts)
    known: dict[str, dict[str, Any]] = {
        "evaluations": {"benchmarks": benchmarks, "renderer": renderer},
        "preemption": {"checkpoints": built.get("checkpoints")},
        "samples": {"renderer": renderer},
    }
    names = [*(name for name in ORDER if name in built), *(name for name in built if name not in ORDER)]
    return [built[name](**known[name]) if name in known else built[name] for name in names]


def _build_strategy(hardware: Hardware) -> str | ZeroStrategy:
    if isinstance(hardware.strategy, str):
        return hardware.strategy
    return ZeroStrategy(micro_batch_size=hardware.micro_batch_size, **hardware.strategy)


def _describe(cfg: DictConfig, datamodule: TokenDataModule, renderer: Renderer) -> dict[str, Any]:
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


def _composition(cfg: DictConfig) -> dict[str, str]:
    """Return what Hydra itself would write before the job could refuse the directory of another run."""
    job = HydraConfig.get()
    return {
        "config.yaml": OmegaConf.to_yaml(cfg),
        "overrides.yaml": OmegaConf.to_yaml(job.overrides.task),
        "hydra.yaml": OmegaConf.to_yaml(OmegaConf.create({"hydra": job})),
    }
