"""Runs jobs of `musician.train` one after another, of one rank or several; tests start it by `run_jobs`.

Each rank is forked from this process, which has imported everything once (see killed_runs.py), and notes the rows that
it trains on. Arguments: a folder, and a JSON list of [name, ranks, overrides].
"""

import json
import sys
from functools import partial
from pathlib import Path

from killed_runs import fork, free_port, import_all, import_as, wait


def note_rows(file):
    """Append the ids of each micro-batch, with its step, to a file."""
    from musician.training.module import CausalLMModule

    original = CausalLMModule.training_step

    def training_step(self, batch, batch_idx):
        with file.open("a") as stream:
            print(json.dumps([self.global_step, batch["input_ids"].tolist()]), file=stream)
        return original(self, batch, batch_idx)

    CausalLMModule.training_step = training_step


def main(folder, jobs):
    import_all()
    for name, ranks, overrides in jobs:
        port = free_port()
        places = [f"hydra.run.dir={folder / name}", f"data.root={folder / 'data'}"]
        command = [*overrides, *places]
        files = [folder / f"{name}-{rank}.rows" for rank in range(ranks)]
        pids = [
            fork(folder, name, rank, ranks, port, command, partial(note_rows, file)) for rank, file in enumerate(files)
        ]
        codes, _ = wait(pids)
        import_as(folder / "modules")
        if any(codes):
            raise SystemExit(f"{name} failed: {codes}\n{(folder / f'{name}-0.log').read_text()[-2000:]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
