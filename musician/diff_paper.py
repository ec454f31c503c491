"""A job beside what is published: `python -m musician.diff_paper +experiment=sft hardware=8xv100 recipe=code`."""

from __future__ import annotations

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from musician.cli.entry import command
from musician.cli.published import EPOCHS, STATEMENTS, Statement, agrees


@command("diff_paper")
def main(cfg: DictConfig) -> None:
    """Print each statement beside the job's value."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if Console().is_terminal else 150)
    table = Table(title=f"{cfg.name}, recipe={cfg.recipe.name}, hardware={cfg.hardware.name}", box=box.SIMPLE_HEAD)
    for heading in ("key", "this job", "README and paper", "released code", "note"):
        table.add_column(heading, overflow="fold")
    counts = {"README and paper": [0, 0], "released code": [0, 0]}
    for statement, value in lines(cfg):
        cells = []
        for name, stated in (("README and paper", statement.readme), ("released code", statement.code)):
            same = agrees(stated, value)
            counts[name][0] += same is not None
            counts[name][1] += same is False
            cells.append(f"{short(stated)}{'' if same is None else '  =' if same else '  DIFFERS'}")
        table.add_row(statement.key, short(value), *cells, statement.note)
    console.print(table)
    for name, (stated, different) in counts.items():
        print(f"{name}: {different} of {stated} statements differ")


def lines(cfg: DictConfig) -> list[tuple[Statement, Any]]:
    """Return each statement with the job's value, resolved."""
    hardware = instantiate(cfg.hardware, _convert_="all")
    epochs = EPOCHS[str(cfg.module._target_).rpartition(".")[2]]
    statements = (*STATEMENTS, Statement("trainer.max_epochs", epochs, epochs))
    found = []
    for statement in statements:
        value = hardware.world_size if statement.key == "hardware.world_size" else OmegaConf.select(cfg, statement.key)
        found.append((statement, OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value))
    return found


def short(value: Any) -> str:
    """A value as the table shows it: a class by its name, a list by its words."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    text = str(value)
    return text.rpartition(".")[2] if text.startswith("musician.") else text


if __name__ == "__main__":
    main()
