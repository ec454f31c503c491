"""Make instruction data from tunes: `python -m musician.build_tasks tunes=FOLDER output=tasks.jsonl`."""

from __future__ import annotations

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from musician.cli.entry import command


@command("build_tasks")
def main(cfg: DictConfig) -> None:
    """Make the rows, write them, and print what was made and what was dropped."""
    from musician.runtime.errors import UserError

    if cfg.schema not in ("musicpile_sft", "messages"):
        raise UserError(f"build_tasks: schema={cfg.schema}; use musicpile_sft or messages")
    output = Path(cfg.output)
    counts = instantiate(cfg.builder).write(output, cfg.schema)
    for name, count in sorted(counts.made.items()):
        print(f"{count:8,}  {name}")
    print(f"{counts.made.total():8,}  rows from {counts.tunes:,} tunes")
    knowledge = counts.made["theory"] / max(1, counts.score_rows)
    print(f"knowledge to score: {knowledge:.2f} to 1 (asked: {cfg.builder.knowledge_weight:g} to 1)")
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.dropped.items())) or "none"
    print(f"dropped: {dropped}")
    print(f"tasks: {output}")


if __name__ == "__main__":
    main()
