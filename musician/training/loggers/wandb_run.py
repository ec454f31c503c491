"""A run of W&B: offline unless asked, grouped by sweep, the same run when training continues, never a question."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from musician.runtime.atomic import write_text
from musician.runtime.errors import UserError
from musician.training.loggers.wandb_layout import panels

#: Holds the id of a run directory's W&B run.
FILE = "wandb_run_id"

#: What W&B shows as a run's result; everything else is its last value.
_BEST = {"val/loss": "min", "train/memory_gib": "max", "train/skipped_steps": "max"}


class WandbRun(WandbLogger):
    """Lightning's logger with an id that is kept in the run directory.

    Args:
        save_dir: the run directory.
        project: W&B project.
        name: of the run; a job of a sweep adds the name of its directory.
        offline: write to `save_dir/wandb` only.
        sweep_dir: directory of the sweep the run is a job of; its name is the group.
        continues: run directory or checkpoint that this run continues, whose id it takes over.
        log_adapter: upload the best weights when training has ended, as an artifact of type `model`.
        workspace: figures of benchmarks, as `mmlu/micro`: a new run also saves a view of the project, with panels of
            these and of everything else that is logged; None does not.
        job_type: what W&B lists the run as; None is `sweep` for a job of a sweep and `train` for others.

    Raises:
        UserError: online, and there is no key; W&B would ask for one. A workspace offline.
    """

    def __init__(
        self,
        save_dir: str,
        project: str = "musician",
        name: str | None = None,
        offline: bool = True,
        sweep_dir: str | None = None,
        continues: str | None = None,
        log_adapter: bool = False,
        workspace: Sequence[str] | None = None,
        job_type: str | None = None,
    ) -> None:
        if not offline and os.environ.get("WANDB_MODE", "online") == "online":
            check_key()
        if offline and workspace is not None:
            raise UserError("logger.wandb.workspace: a view is saved online only; add logger.wandb.offline=false")
        self.log_adapter = log_adapter
        self._workspace = workspace
        group = Path(sweep_dir).name if sweep_dir else None
        super().__init__(
            name=f"{name} {Path(save_dir).name}" if group else name,
            save_dir=save_dir,
            project=project,
            offline=offline,
            id=_known_id(Path(save_dir), continues),
            group=group,
            job_type=job_type or ("sweep" if group else "train"),
        )
        self._wandb_init.pop("anonymous", None)  # W&B warns of it even where it is not set
        if offline:
            self._wandb_init["mode"] = "offline"  # Lightning's variable may come too late: W&B reads them once
            self._wandb_init.pop("resume", None)  # W&B warns that it means nothing offline; the id decides

    @property
    def experiment(self) -> Any:
        """The W&B run; when it begins its id is written down, and what its summary holds is defined."""
        from wandb.wandb_run import Run

        begins = self._experiment is None
        run = super().experiment
        if begins and self.save_dir is not None and isinstance(run, Run):
            file = Path(self.save_dir) / FILE
            if self._workspace is not None and not file.exists():
                panels(run.entity, run.project, list(self._workspace)).save_as_new_view()
            write_text(file, run.id + "\n")
            for metric, best in _BEST.items():
                run.define_metric(metric, step_metric="trainer/global_step", summary=best)
        return run

    def log_weights(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Log a directory of weights as an artifact, whose metadata says what they were made from.

        W&B reads the files where they are: offline, they must stay there until `wandb sync`.

        Args:
            folder: as peft or transformers wrote it.
            facts: base model, data and the like.
        """
        from wandb import Artifact

        artifact = Artifact(f"{folder.name}-{self.experiment.id}", type="model", metadata=dict(facts))
        artifact.add_dir(str(folder), policy="immutable")
        self.experiment.log_artifact(artifact, aliases=["best"])


def _known_id(directory: Path, continues: str | None) -> str | None:
    """The id of the run in a directory, or of the one that continues; None where neither has one."""
    places = [directory]
    if continues and continues != "auto":
        earlier = Path(continues).expanduser()
        places += [earlier, *list(earlier.parents)[:2]]
    file = next((place / FILE for place in places if (place / FILE).is_file()), None)
    return file.read_text().strip() if file else None


def check_key() -> None:
    """Refuse to go online where there is no key of W&B; W&B itself would ask for it.

    Raises:
        UserError: there is no key.
    """
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise UserError(
            "logger.wandb.offline=false needs a key: run `wandb login` or set WANDB_API_KEY, or stay offline and run "
            "`wandb sync` later"
        )
