"""Fold an adapter into its base, and prove that nothing was lost."""

from __future__ import annotations

import copy
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from musician.model.network import check_vocabulary
from musician.runtime.atomic import write_directory
from musician.runtime.errors import UserError

CERTIFICATE = "certificate.json"


@dataclass(frozen=True)
class Certificate:
    """How far a merged model, read back from disk, is from its base with the adapter attached.

    Attributes:
        max_logit_difference: largest absolute difference over all probes, positions and vocabulary.
        max_logit: largest absolute logit of the reference, for scale.
        tolerance: what was allowed.
        same_argmax: share of positions at which both choose the same token.
        probes: texts compared.
        positions: positions compared.
        dtype: type the merged weights were written in.
        base_model: what the adapter was trained on.
        adapter: where the adapter was.
        vocabulary: rows of the embedding, and ids of the tokenizer.
        torch: version that wrote it.
    """

    max_logit_difference: float
    max_logit: float
    tolerance: float
    same_argmax: float
    probes: int
    positions: int
    dtype: str
    base_model: str
    adapter: str
    vocabulary: tuple[int, int]
    torch: str = torch.__version__
    python: str = platform.python_version()


def default_tolerance(dtype: str, largest_logit: float) -> float:
    """Allowed difference of logits: rounding of the written type at the scale of the logits.

    fp32 merging reorders sums only; half precision also rounds each merged weight.
    """
    relative = {"float32": 2e-5, "float16": 2e-2, "bfloat16": 1e-1}[dtype]
    return relative * max(1.0, largest_logit)


def attach_adapter(base: nn.Module, adapter: str | Path) -> nn.Module:
    """Load an adapter that peft saved onto its base, in the type of the base's weights, and freeze it.

    Raises:
        UserError: no adapter there, or one of another shape.
    """
    from peft import PeftModel

    if not (Path(adapter) / "adapter_config.json").is_file():
        raise UserError(
            f"adapter {adapter}: no adapter_config.json there; give a run directory or a checkpoint's adapter/"
        )
    try:
        return PeftModel.from_pretrained(base, str(adapter), autocast_adapter_dtype=False)
    except (RuntimeError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"adapter {adapter}: does not fit this base model ({reason})") from error


def fold(network: Any) -> Any:
    """The network with its adapter folded into its weights, in memory; one without adapter as it is."""
    return network.merge_and_unload() if hasattr(network, "merge_and_unload") else network


@torch.no_grad()
def merge(
    network: nn.Module,
    tokenizer: Any,
    output: str | Path,
    probes: list[list[int]],
    *,
    dtype: str = "float32",
    tolerance: float | None = None,
    base_model: str = "",
    adapter: str = "",
) -> Certificate:
    """Write base and adapter as one plain transformers model, with its tokenizer and a certificate.

    The directory appears only when the model that was written, loaded again by plain transformers, gives the logits of
    base and adapter on the probes. Its `generation_config.json` samples, so that servers heed temperature and seed, and
    ends at the tokenizer's end-of-sequence token. The embedding keeps its rows: never fewer than the tokenizer has ids
    (B9, B36).

    Args:
        network: the base with the adapter attached, in fp32; it is merged in place.
        tokenizer: written beside the weights.
        output: the directory to make.
        probes: token ids of a few texts.
        dtype: type of the written weights.
        tolerance: largest allowed difference of logits; None decides by dtype and scale.
        base_model: for the certificate.
        adapter: for the certificate.

    Raises:
        UserError: the output exists, the vocabularies do not match, or the difference is above the tolerance.
    """
    output = Path(output)
    if output.exists():
        raise UserError(f"merge: {output} already exists; remove it or choose another output_dir")
    check_vocabulary(network, tokenizer)
    network.eval()
    expected = [_logits(network, ids) for ids in probes]
    certificate: list[Certificate] = []

    def fill(directory: Path) -> None:
        merged = fold(network)
        rows = merged.get_input_embeddings().num_embeddings
        merged.generation_config = _generation_config(tokenizer)
        _plain_copy(merged, dtype).save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        found = _reload(directory, dtype)
        measured = _compare(expected, [_logits(found, ids) for ids in probes])
        allowed = default_tolerance(dtype, measured[1]) if tolerance is None else tolerance
        made = Certificate(
            *measured[:2],
            tolerance=allowed,
            same_argmax=measured[2],
            probes=len(probes),
            positions=sum(len(ids) for ids in probes),
            dtype=dtype,
            base_model=base_model,
            adapter=adapter,
            vocabulary=(rows, len(tokenizer)),
        )
        (directory / CERTIFICATE).write_text(json.dumps(asdict(made), indent=2) + "\n")
        certificate.append(made)
        if not made.max_logit_difference <= allowed:
            raise UserError(
                f"merge refused: logits differ by {made.max_logit_difference:.3g} from those of base + adapter, "
                f"more than {allowed:.3g} (dtype={dtype}); nothing was written"
            )

    try:
        write_directory(output, fill)
    except (OSError, SafetensorError) as error:
        raise UserError(f"merge: {output} cannot be written ({error}); choose another output_dir") from error
    return certificate[0]


def _logits(network: nn.Module, ids: list[int]) -> Tensor:
    """Logits `[length, vocabulary]` of one probe in fp32."""
    device = next(network.parameters()).device
    return network(input_ids=torch.tensor([ids], device=device), use_cache=False).logits[0].float().cpu()


def _compare(expected: list[Tensor], found: list[Tensor]) -> tuple[float, float, float]:
    """Largest difference (NaN counts as infinite), largest logit, share of equal choices."""
    difference, largest, same, positions = 0.0, 0.0, 0, 0
    for reference, other in zip(expected, found, strict=True):
        gap = float((reference - other).abs().nan_to_num(nan=float("inf")).max())
        difference, largest = max(difference, gap), max(largest, float(reference.abs().max()))
        same += int((reference.argmax(-1) == other.argmax(-1)).sum())
        positions += len(reference)
    return difference, largest, same / max(1, positions)


def _generation_config(tokenizer: Any) -> Any:
    """Sampling as in `conf/generation/music.yaml`: without `do_sample` servers ignore temperature and seed."""
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=True,
        temperature=0.7,
        top_k=40,
        top_p=0.9,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _plain_copy(merged: nn.Module, dtype: str) -> Any:
    wanted = getattr(torch, dtype)
    if next(merged.parameters()).dtype == wanted:
        return merged
    return copy.deepcopy(merged).to(wanted)


def _reload(directory: Path, dtype: str) -> nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype)).eval()
