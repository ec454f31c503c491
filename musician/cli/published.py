"""A job beside what ChatMusician's README and paper state about training, and what its released scripts do.

Facts read in the released repository (hf-lin/ChatMusician, commit 440e65e) and in arXiv 2402.16153, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from musician.cli.tables import print_table

#: Stands where a source says nothing.
SILENT = "-"


@dataclass(frozen=True, slots=True)
class Statement:
    """One line of the comparison.

    Attributes:
        key: the key of a job.
        readme: its value by README and paper; `SILENT` where they state none.
        code: its value in the released scripts.
        note: what the value rests on, where it is not written down as such.
    """

    key: str
    readme: Any
    code: Any
    note: str = ""


_SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_SCHEDULES = "musician.model.schedule."

STATEMENTS = (
    Statement("optimizer.lr", 1e-4, 1e-4),
    Statement("optimizer.betas", SILENT, [0.9, 0.95]),
    Statement("optimizer.eps", SILENT, 1e-8),
    Statement("optimizer.weight_decay", SILENT, 0.1, "the script's own option is ignored; the number is the same"),
    Statement("optimizer.lr_ratio", 1.0, 1.0),
    Statement(
        "module.schedule._target_",
        _SCHEDULES + "WarmupCosine",
        _SCHEDULES + "LogWarmupLinear",
        "DeepSpeed 0.10.3 knows no warm-up 'cosine' and falls back to log, then decays linearly",
    ),
    Statement("module.schedule.warmup_ratio", 0.05, 0.1),
    Statement("module.schedule.floor", SILENT, 0.1, "warmup_min_lr = 0.1 lr"),
    Statement("trainer.gradient_clip_val", 1.0, 1.0),
    Statement("lora.r", 64, 64),
    Statement("lora.lora_alpha", 16, 16),
    Statement("lora.lora_dropout", 0.1, 0.1),
    Statement("lora.bias", SILENT, "none"),
    Statement("lora.target_modules", _SEVEN, _SEVEN, "'attention and MLP'"),
    Statement(
        "lora.modules_to_save",
        ["embed_tokens", "lm_head"],
        None,
        "the README trains embeddings as well; the code names no modules_to_save",
    ),
    Statement("lora.use_rslora", False, False),
    Statement("lora.use_dora", False, False),
    Statement("global_batch_size", 8, 8, "8 GPUs x 1 x 1; 9,750 steps an epoch of 78,000 rows"),
    Statement("data.max_length", 2048, 2048),
    Statement("model.renderer.template", SILENT, "chatmusician", "blanks around </s>, as in the data"),
    Statement("model.renderer.add_bos", SILENT, False),
    Statement("model.renderer.add_eos", SILENT, False, "documents get none; answers carry </s> in the data"),
    Statement("data.packing", SILENT, False),
    Statement("data.reshuffle", SILENT, False, "DistributedSampler without set_epoch"),
    Statement("hardware.precision", "16-mixed", "16-mixed", "fp16, dynamic loss scale, window 100"),
    Statement("hardware.world_size", 8, 8, "README: 8 V100 for SFT; paper: 16 A800 for both phases"),
)

#: Epochs by the module that trains: one pass of continual pre-training, two of instruction tuning.
EPOCHS = {"PretrainModule": 1, "SFTModule": 2}


def agrees(stated: Any, value: Any) -> bool | None:
    """Whether a job's value is the stated one; None where nothing is stated. Lists are sets, numbers numbers."""
    if stated == SILENT and isinstance(stated, str):
        return None
    if isinstance(stated, list) and isinstance(value, list | tuple):
        same_kind = all(isinstance(item, str) for item in stated)
        return sorted(stated) == sorted(value) if same_kind else list(stated) == list(value)
    return bool(stated == value)


def compare_published(cfg: DictConfig) -> list[tuple[Statement, Any]]:
    """Return each statement with the value of a job, resolved."""
    hardware = instantiate(cfg.hardware, _convert_="all")
    epochs = EPOCHS[str(cfg.module._target_).rpartition(".")[2]]
    found = []
    for statement in (*STATEMENTS, Statement("trainer.max_epochs", epochs, epochs)):
        value = hardware.world_size if statement.key == "hardware.world_size" else OmegaConf.select(cfg, statement.key)
        found.append((statement, OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value))
    return found


def show_published(cfg: DictConfig) -> None:
    """Print each statement beside the value of a job, and how many differ."""
    lines = compare_published(cfg)
    rows = [
        (s.key, _short(value), *(_cell(stated, agrees(stated, value)) for stated in (s.readme, s.code)), s.note)
        for s, value in lines
    ]
    columns = ("key", "this job", "README and paper", "released code", "note")
    print_table(f"{cfg.name}, recipe={cfg.recipe.name}, hardware={cfg.hardware.name}", columns, rows, left=columns)
    for name, source in (("README and paper", "readme"), ("released code", "code")):
        same = [agrees(getattr(statement, source), value) for statement, value in lines]
        print(f"{name}: {same.count(False)} of {len(same) - same.count(None)} statements differ")


def _cell(stated: Any, same: bool | None) -> str:
    return f"{_short(stated)}{'' if same is None else '  =' if same else '  DIFFERS'}"


def _short(value: Any) -> str:
    """Return a value as the table shows it: a class by its name, a list by its words."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    text = str(value)
    return text.rpartition(".")[2] if text.startswith("musician.") else text
