"""Prepared data as Lightning wants it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning

from musician.data.batches import GlobalBatches, Share, row_order
from musician.data.loader import EpochLoader
from musician.data.packing import Rows, one_document_a_row
from musician.data.packing_plan import planned_rows
from musician.data.quality.filters import Quality
from musician.data.rendering.render import Renderer
from musician.data.sources.source import Source
from musician.data.store.cluster import Datatrove
from musician.data.store.prepare import Recipe, prepare
from musician.data.store.prepared import PreparedData, is_prepared
from musician.data.store.split import PreparedSplit
from musician.runtime.errors import UserError


class TokenDataModule(lightning.LightningDataModule):
    """Tokenised documents or conversations, packed into rows.

    Args:
        renderer: turns rows into ids; its tokenizer is the model's.
        source: where rows come from; not needed when `path` is a prepared directory.
        path: a directory that `python -m musician.preprocess` printed. None, or the file or folder that `source` reads,
            prepares `source` under `root`.
        root: folder of prepared directories.
        max_length: tokens of a row.
        validation_fraction: share of tune families held out (when preparing).
        split_seed: which families these are.
        text_field: column of running text.
        packing: put several documents in a row; each still sees only itself.
        reshuffle: another order each epoch; the original repeats one order (B25).
        limit_train_rows: train on the first so many rows of each epoch's order.
        limit_val_rows: validate on the first so many rows.
        seed: with the epoch, decides the order.
        num_proc: processes that tokenise; the data do not depend on it.
        quality: rows to drop and characters to repair (when preparing); None: none.
        keep: columns of the rows whose values are kept beside the tokens, where they have any.
        engine: prepares on several machines; the data do not depend on it.
    """

    def __init__(  # noqa: PLR0913 - the signature is the schema of conf/data
        self,
        renderer: Renderer,
        source: Source | None = None,
        path: str | None = None,
        root: str | Path = "data",
        max_length: int = 2048,
        validation_fraction: float = 0.01,
        split_seed: int = 0,
        text_field: str = "text",
        packing: bool = True,
        reshuffle: bool = True,
        limit_train_rows: int | None = None,
        limit_val_rows: int | None = None,
        seed: int = 0,
        num_proc: int = 1,
        quality: Quality | None = None,
        keep: Sequence[str] = (),
        engine: Datatrove | None = None,
    ) -> None:
        super().__init__()
        self.renderer = renderer
        self.source = source
        self.path = path
        self.root = Path(root).expanduser()
        self.recipe = Recipe(max_length, validation_fraction, split_seed, text_field, quality or Quality(), tuple(keep))
        self.packing = packing
        self.reshuffle = reshuffle
        self.limits = (limit_train_rows, limit_val_rows)
        self.seed = seed
        self.num_proc = num_proc
        self.engine = engine
        self._loader: EpochLoader | None = None
        self._position: dict[str, Any] | None = None
        self._is_set_up = False
        self.schedule_work(global_batch_size=1, micro_batch_size=1)

    def schedule_work(
        self, global_batch_size: int, micro_batch_size: int, num_workers: int = 0, pin_memory: bool = False
    ) -> None:
        """Set what the machine decides: how a global batch is cut up and how many processes build batches."""
        self.global_batch_size = global_batch_size
        self.micro_batch_size = micro_batch_size
        self.num_workers = num_workers
        self.pin_memory = pin_memory

    def prepare_data(self) -> None:
        """Tokenise the source unless that was done; once a node."""
        self.path = self._prepared()

    def setup(self, stage: str | None = None) -> None:
        """Open the prepared directory and plan the rows; again, as Lightning does, does nothing.

        Raises:
            UserError: prepared for longer rows than `max_length`, or with another tokenizer or template.
        """
        if self._is_set_up:
            return
        self.path = self._prepared()
        self.data = PreparedData(self.path, self.renderer.tokenizer)
        if self.data.meta["max_length"] > self.recipe.max_length:
            raise UserError(
                f"data {self.path}: holds items of up to {self.data.meta['max_length']} tokens, "
                f"more than data.max_length={self.recipe.max_length}; raise it or preprocess again"
            )
        if self.data.meta["renderer"] != self.renderer.identity():
            raise UserError(
                f"data {self.path}: was rendered with another template or policy ({self.data.meta['template']}); "
                "preprocess again, or set model.renderer as it was then"
            )
        train = self.data.split("train")
        assert train is not None, "prepare() refuses to write data without a training split"
        self.train, self.train_rows = train, self._plan(train)
        self.validation = self.data.split("validation")
        self._is_set_up = True

    def train_dataloader(self) -> EpochLoader:
        """Micro-batches of this rank; the order is keyed by (seed, epoch)."""
        self._loader = EpochLoader(self.training_batches, self.num_workers, self.pin_memory)
        if self._position is not None:
            self._loader.load_state_dict(self._position)
        return self._loader

    def state_dict(self) -> dict[str, Any]:
        """Position in the data: epoch and step."""
        return self._loader.state_dict() if self._loader else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a position.

        Lightning would hand it to the loader only while it sets the loader up, and by then the loader exists: the
        schedule had to ask how long an epoch is.
        """
        self._position = state_dict
        if self._loader:
            self._loader.load_state_dict(state_dict)

    def val_dataloader(self) -> Any:
        """Held-out micro-batches of this rank, in order; none when nothing is held out."""
        if self.validation is None:
            return []
        rows = self._plan(self.validation)
        order = row_order(len(rows), self.recipe.split_seed, 0)[: self.limits[1]]
        share = self._share()
        batches = GlobalBatches(self.validation, rows, order, share.micro_batch_size * share.world_size, share)
        return EpochLoader(lambda epoch, step: batches)

    def training_batches(self, epoch: int, first_step: int) -> GlobalBatches:
        """Micro-batches of this rank in an epoch, from a step of it on."""
        order = row_order(len(self.train_rows), self.seed, epoch if self.reshuffle else 0)[: self.limits[0]]
        return GlobalBatches(self.train, self.train_rows, order, self.global_batch_size, self._share(), first_step)

    def _share(self) -> Share:
        if self.trainer is None:
            return Share(self.micro_batch_size)
        return Share(self.micro_batch_size, self.trainer.global_rank, self.trainer.world_size)

    def _plan(self, split: PreparedSplit) -> Rows:
        return planned_rows(split, self.recipe.max_length) if self.packing else one_document_a_row(len(split))

    def _prepared(self) -> str:
        if self.path is not None and (is_prepared(self.path) or getattr(self.source, "path", None) != self.path):
            return self.path
        if self.source is None:
            raise UserError("data: no rows; set data.path (a prepared directory) or data.source")
        return str(prepare(self.source, self.renderer, self.recipe, self.root, self.num_proc, self.engine))
