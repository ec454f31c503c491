"""A sweep of `sweeps/` as W&B's agents take it: `python -m musician.wandb_sweep lora_rank +experiment=sft`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, Transformer
from omegaconf import DictConfig, OmegaConf

from musician.cli.entry import command
from musician.cli.keys import CONF_DIR
from musician.cli.positional import name_words
from musician.runtime.errors import UserError, nearest

#: Keys of this command that are not keys of the job; plain words on the command line are the first.
OWN = ("definition", "method", "goal", "early_terminate")
METHODS = (None, "grid", "random", "bayes")
GOALS = ("minimize", "maximize")


@command("wandb_sweep")
def wandb_sweep(cfg: DictConfig) -> None:
    """Read the sweep, print its definition."""
    if OmegaConf.select(cfg, "logger.wandb._target_") is None:
        raise UserError("wandb_sweep: the agents report through W&B, which logger=[...] leaves out; add wandb")
    for name, value, known in (("method", cfg.method, METHODS), ("goal", cfg.goal, GOALS)):
        if value not in known:
            raise UserError(f"wandb_sweep: {name}={value} must be one of {', '.join(filter(None, known))}")
    overrides = [word for word in HydraConfig.get().overrides.task if word.partition("=")[0] not in OWN]
    content = definition(read_params(cfg.definition), overrides, cfg.objective, cfg.goal, cfg.method)
    content = {"project": cfg.logger.wandb.project, "name": cfg.name, **content, **stopping(cfg.early_terminate)}
    print(OmegaConf.to_yaml(OmegaConf.create(content)), end="")


def read_params(name: str | None) -> dict[str, Any]:
    """Return what a sweep of `sweeps/`, or of a file of one's own, tries of each key, in Hydra's grammar.

    Raises:
        UserError: there is no such sweep, or it has no grid.
    """
    known = sorted(file.stem for file in (CONF_DIR / "sweep").glob("*.yaml"))
    file = CONF_DIR / "sweep" / f"{name}.yaml" if name in known else Path(name or "")
    if not file.is_file():
        raise UserError(
            f"wandb_sweep: definition={name} is no file and no sweep{nearest(str(name), known)}; there are {known}"
        )
    params = OmegaConf.select(OmegaConf.load(file), "hydra.sweeper.params")
    if not params:
        raise UserError(f"wandb_sweep: {file} has no hydra.sweeper.params")
    return {str(key): value for key, value in params.items_ex(resolve=False)}


def definition(
    params: Mapping[str, Any], overrides: Sequence[str], metric: str, goal: str = "minimize", method: str | None = None
) -> dict[str, Any]:
    """Return a W&B sweep definition (docs.wandb.ai, sweep configuration structure).

    Args:
        params: what is tried of each key, in Hydra's grammar.
        overrides: what all jobs share.
        metric: logged metric.
        goal: `minimize` or `maximize`.
        method: `grid`, `random` or `bayes`; None is a grid where every key lists its values, else `bayes`.

    Raises:
        UserError: `method` is `grid` and a key has an interval.
    """
    parsed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    endless = [one.get_key_element() for one in parsed if one.is_interval_sweep()]
    if endless and method == "grid":
        raise UserError(
            f"wandb_sweep: method=grid cannot list the values of the interval {endless[0]}; take bayes or random"
        )
    return {
        "method": method or ("bayes" if endless else "grid"),
        "metric": {"name": metric, "goal": goal},
        "parameters": {one.get_key_element(): parameter(one) for one in parsed},
        "command": [
            *("${env}", "${interpreter}", "-m", "musician.train", *overrides),
            *("logger.wandb.offline=false", "${args_no_hyphens}"),
        ],
    }


def stopping(measured: Any) -> dict[str, Any]:
    """Return W&B's own early stopping, Hyperband, after so many values of the objective; nothing for None.

    Raises:
        UserError: not a positive whole number.
    """
    if measured is None:
        return {}
    if not isinstance(measured, int) or measured < 1:
        raise UserError(f"wandb_sweep: early_terminate={measured} must be a number of validations, at least 1")
    return {"early_terminate": {"type": "hyperband", "min_iter": measured}}


def parameter(override: Override) -> dict[str, Any]:
    """Return what W&B is to try of a key: a value, a list of values, or a distribution between two ends."""
    if not override.is_sweep_override():
        return {"value": override.get_value_element_as_str()}
    if not override.is_interval_sweep():
        return {"values": list(override.sweep_iterator(transformer=Transformer.encode))}
    interval = override.value()
    assert isinstance(interval, IntervalSweep)
    whole = isinstance(interval.start, int) and isinstance(interval.end, int)
    if "log" in interval.tags:
        kind = "q_log_uniform_values" if whole else "log_uniform_values"
    else:
        kind = "int_uniform" if whole else "uniform"
    step = {"q": 1} if kind.startswith("q_") else {}
    return {"distribution": kind, "min": interval.start, "max": interval.end, **step}


def main() -> None:
    """Run the command; `lora_rank +experiment=sft` says `definition=lora_rank +experiment=sft`."""
    sys.argv[1:] = name_words(sys.argv[1:], OWN[:1], "wandb_sweep")
    wandb_sweep()


if __name__ == "__main__":
    main()
