"""Open whatever a user calls a model as a `LanguageModel`."""

from __future__ import annotations

import logging
from typing import Any

from musician.data.rendering.canary import check_canaries
from musician.data.rendering.render import Renderer
from musician.data.rendering.tokenizer import load_tokenizer
from musician.lm.language_model import LanguageModel
from musician.lm.source import ModelSource, find_model
from musician.model.merge import attach_adapter, fold
from musician.model.network import check_vocabulary, load_network, random_llama
from musician.model.quantization import quantize
from musician.runtime.errors import UserError, nearest
from musician.runtime.hardware import best_device, best_precision

#: What a checkpoint may name, under today's names and those of earlier releases; nothing else is ever called.
_NETWORKS = {f"musician.model.network.{build.__name__}": build for build in (load_network, random_llama)}
_RENDERERS = {
    "musician.data.rendering.render.Renderer": Renderer,
    "musician.data.render.Renderer": Renderer,
}

#: Type of the weights by precision; mixed precision keeps them in fp32.
_DTYPES = {
    "32-true": "float32",
    "bf16-true": "bfloat16",
    "16-true": "float16",
    "bf16-mixed": "float32",
    "16-mixed": "float32",
}


def open_model(
    path: str,
    base: str | None = None,
    precision: str | None = None,
    device: str | None = None,
    template: str | None = None,
    quantization: str | None = None,
) -> LanguageModel:
    """Open a run directory, a checkpoint, an adapter, a merged model, a local or a hub model, in evaluation mode.

    A run stores its template and the ids of a few prompts; a renderer that gives other ids is refused.

    Args:
        path: any of these.
        base: base model of an adapter, where it has moved.
        precision: as Lightning names it; None is the fastest one that the device computes natively. One line of the
            log names it and why.
        device: where the network goes; None is the first GPU, else the CPU.
        template: chat template of a model that does not store one; None is `human_assistant`.
        quantization: `int8` or `nf4` merges the adapter and rounds the weights (`musician.model.quantization`).

    Raises:
        UserError: nothing usable there, parts that do not fit, an unknown precision, or prompts that would not be
            rendered as in training.
    """
    device = device or best_device()
    reason = ""
    if precision is None:
        precision, reason = best_precision(device)
    if precision not in _DTYPES:
        raise UserError(
            f"model.precision={precision}: must be one of {', '.join(_DTYPES)}{nearest(precision, _DTYPES)}"
        )
    source = find_model(path, base)
    tokenizer = load_tokenizer(source.tokenizer)
    nodes = source.description.get("model", {})
    if nodes and template is None:
        renderer = _build(nodes["renderer"], _RENDERERS, path, tokenizer=tokenizer)
        check_canaries(renderer, source.description.get("canaries"), path)
    else:
        renderer = Renderer(tokenizer, template or "human_assistant")
    network = _network(source, nodes, base, _DTYPES[precision])
    check_vocabulary(network, tokenizer)
    # Rounded on the way: the device never needs room for the unrounded weights.
    network = quantize(fold(network), quantization, device) if quantization else network.to(device)
    if reason:
        logging.getLogger(__name__).info("model %s: precision %s on %s (%s)", path, precision, device, reason)
    return LanguageModel(network.eval(), renderer, precision, source)


def _network(source: ModelSource, nodes: dict[str, Any], base: str | None, dtype: str) -> Any:
    if source.adapter is None:
        return load_network(source.base, dtype=dtype)
    if nodes and base is None:
        # The base exactly as the run built it, random test models included.
        network = _build(nodes["network"], _NETWORKS, str(source.adapter), dtype=dtype, gradient_checkpointing=False)
    else:
        network = load_network(source.base, dtype=dtype)
    return attach_adapter(network, source.adapter)


def _build(node: dict[str, Any], builders: dict[str, Any], path: str, **changes: Any) -> Any:
    """Call the one of `builders` that a checkpoint names, with the arguments that it stores.

    Raises:
        UserError: the checkpoint names something else, or stores arguments that do not fit.
    """
    target = node.get("_target_")
    if target not in builders:
        raise UserError(f"model {path}: its checkpoint names {target}, which is none of {sorted(builders)}")
    stored = {key: value for key, value in node.items() if not key.startswith("_")}
    try:
        return builders[target](**{**stored, **changes})
    except TypeError as error:
        raise UserError(f"model {path}: its checkpoint stores arguments that do not fit ({error})") from error
