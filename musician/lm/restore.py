"""A model ready to use from whatever a user calls one; what evaluation, merging and generation share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from musician.data.rendering.canary import check_canaries
from musician.data.rendering.render import Renderer
from musician.data.rendering.tokenizer import load_tokenizer
from musician.lm.source import ModelSource, find_model
from musician.model.merge import attach_adapter
from musician.model.network import check_vocabulary, load_network, random_llama
from musician.runtime.errors import UserError

#: What a checkpoint may name, under today's names and those of earlier releases; nothing else is ever called.
_NETWORKS = {f"musician.model.network.{build.__name__}": build for build in (load_network, random_llama)}
_RENDERERS = {
    "musician.data.rendering.render.Renderer": Renderer,
    "musician.data.render.Renderer": Renderer,
}


@dataclass(frozen=True, slots=True)
class RestoredModel:
    """A network in evaluation mode with the renderer of its training.

    Attributes:
        network: a causal LM, with its adapter attached where it has one.
        renderer: renders prompts as in training.
        source: where the parts came from.
    """

    network: Any
    renderer: Renderer
    source: ModelSource


def restore(
    path: str, base: str | None = None, dtype: str = "float32", device: str = "cpu", template: str | None = None
) -> RestoredModel:
    """Open a run directory, a checkpoint, an adapter, a merged model, a local or a hub model.

    A run remembers its template and the ids of a few prompts; a renderer that gives other ids is refused.

    Args:
        path: any of these.
        base: base model of an adapter, where it has moved.
        dtype: type of the weights.
        device: where they go.
        template: chat template of a model that does not remember one; None is `human_assistant`.

    Raises:
        UserError: nothing usable there, parts that do not fit, or prompts that would not be rendered as in training.
    """
    source = find_model(path, base)
    tokenizer = load_tokenizer(source.tokenizer)
    nodes = source.description.get("model", {})
    if nodes and template is None:
        renderer = _build(nodes["renderer"], _RENDERERS, path, tokenizer=tokenizer)
        check_canaries(renderer, source.description.get("canaries"), path)
    else:
        renderer = Renderer(tokenizer, template or "human_assistant")
    network = _network(source, nodes, base, dtype)
    check_vocabulary(network, tokenizer)
    return RestoredModel(network.to(device).eval(), renderer, source)


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
