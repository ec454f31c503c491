"""The parts of a training job, built from its config: what training and replaying a step share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from musician.cli.entry import build_selected

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from musician.data.rendering.render import Renderer
    from musician.runtime.hardware import Hardware
    from musician.training.datamodule import TokenDataModule
    from musician.training.module import CausalLMModule


@dataclass(frozen=True, slots=True)
class Job:
    """What trains.

    Attributes:
        renderer: with the model's tokenizer.
        datamodule: set up, and cut for this hardware.
        module: holds the network with its adapter.
        accumulation: micro-batches of a rank in an optimiser step.
    """

    renderer: Renderer
    datamodule: TokenDataModule
    module: CausalLMModule
    accumulation: int


def check_hardware(cfg: DictConfig) -> Hardware:
    """The machine of a job.

    Raises:
        UserError: it is not this one, or cannot cut up the global batch.
    """
    hardware: Hardware = instantiate(cfg.hardware, _convert_="all")
    hardware.check()
    hardware.accumulation_steps(cfg.global_batch_size)
    return hardware


def build_job(cfg: DictConfig, hardware: Hardware) -> Job:
    """Seed, prepare the data, build the network and its module.

    Raises:
        UserError: parts that do not fit each other.
    """
    from pytorch_lightning import seed_everything

    from musician.model.lora import attach_lora
    from musician.model.network import check_vocabulary
    from musician.model.passes import SummedNLL

    seed_everything(cfg.seed, workers=True, verbose=False)
    tokenizer = instantiate(cfg.model.tokenizer)
    renderer = instantiate(cfg.model.renderer, tokenizer=tokenizer)
    datamodule = instantiate(cfg.data, renderer=renderer)
    datamodule.schedule_work(
        cfg.global_batch_size, hardware.micro_batch_size, hardware.workers_per_rank, hardware.accelerator == "gpu"
    )
    datamodule.setup()
    network = instantiate(cfg.model.network)
    check_vocabulary(network, tokenizer)
    lora = build_selected({"lora": cfg.get("lora") or {}}).get("lora")
    network = attach_lora(network, lora)
    nll = SummedNLL(network, hardware.fold_lora, hardware.tokens_per_pass)
    module = instantiate(cfg.module, network=network, optimizer=instantiate(cfg.optimizer), nll=nll)
    return Job(renderer, datamodule, module, hardware.accumulation_steps(cfg.global_batch_size))


def build_trainer(cfg: DictConfig, job: Job, callbacks: list[Any], loggers: list[Any], **changes: Any) -> Trainer:
    """Build the trainer of a job.

    Args:
        cfg: the job's config.
        job: its parts.
        callbacks: instantiated.
        loggers: instantiated.
        changes: arguments that replace those of the config.
    """
    trainer: Trainer = instantiate(
        cfg.trainer, accumulate_grad_batches=job.accumulation, callbacks=callbacks, logger=loggers, **changes
    )
    return trainer


def describe(cfg: DictConfig, job: Job) -> dict[str, Any]:
    """Facts that the run record and every checkpoint carry."""
    from musician.data.rendering.canary import canaries
    from musician.data.rendering.tokenizer import tokenizer_hash

    return {
        "name": cfg.name,
        "recipe": cfg.recipe.name,
        "base_model": cfg.model.name_or_path,
        "model": OmegaConf.to_container(cfg.model, resolve=True),
        "data_key": job.datamodule.data.key,
        "data_path": str(job.datamodule.data.directory),
        "tokenizer_hash": tokenizer_hash(job.renderer.tokenizer),
        "template": job.renderer.template.name,
        "canaries": canaries(job.renderer),
    }
