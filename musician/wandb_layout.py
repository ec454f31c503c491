"""The panels of a W&B workspace: `python -m musician.wandb_layout entity=ME save=true`."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig

from musician.cli.entry import command


@command("wandb_layout")
def main(cfg: DictConfig) -> None:
    """Build the layout; write it, or send it to W&B."""
    from musician.runtime.atomic import write_text
    from musician.training.loggers.wandb_layout import workspace
    from musician.training.loggers.wandb_run import check_key

    layout = workspace(cfg.entity, cfg.project, cfg.name, list(cfg.figures))
    if not cfg.save:
        file = Path(cfg.file)
        write_text(file, json.dumps(layout._to_model().model_dump(by_alias=True), indent=2) + "\n")
        print(f"written: {file}; save=true makes it a view of {cfg.entity}/{cfg.project}")
        return
    check_key("wandb_layout: save=true")
    layout.save_as_new_view()
    print(f"saved: {layout.url}")


if __name__ == "__main__":
    main()
