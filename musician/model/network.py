"""A causal language model: where it comes from, and how its body and head are reached."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from musician.model.attention import DOCUMENTS, document_arguments
from musician.runtime.errors import UserError
from musician.runtime.pretrained import locate


def load_network(
    name_or_path: str,
    dtype: str = "float32",
    attn_implementation: str = DOCUMENTS,
    gradient_checkpointing: bool = False,
    trust_remote_code: bool = False,
) -> nn.Module:
    """Load pretrained weights from a hub id, a local directory or a GGUF file.

    Args:
        name_or_path: anything `musician.runtime.pretrained.locate` understands.
        dtype: `float32`, `float16` or `bfloat16`.
        attn_implementation: as transformers names it, or `documents` (`musician.model.attention`).
        gradient_checkpointing: recompute activations in the backward pass: less memory, about a quarter slower.
        trust_remote_code: run code that comes with the model; off unless asked for.

    Raises:
        UserError: nothing loadable there.
    """
    from transformers import AutoModelForCausalLM

    path = locate(name_or_path)
    try:
        network = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=getattr(torch, dtype),
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model {name_or_path}: cannot be loaded ({reason}); use a directory or a hub id") from error
    return _for_training(network, gradient_checkpointing)


def random_llama(  # noqa: PLR0913 - the signature is the schema of conf/model/tiny.yaml
    vocab_size: int,
    hidden_size: int = 64,
    intermediate_size: int = 128,
    num_hidden_layers: int = 2,
    num_attention_heads: int = 4,
    num_key_value_heads: int = 2,
    max_position_embeddings: int = 2048,
    tie_word_embeddings: bool = False,
    dtype: str = "float32",
    attn_implementation: str = DOCUMENTS,
    gradient_checkpointing: bool = False,
    seed: int = 0,
) -> nn.Module:
    """Build a Llama with random weights, the same for the same seed; leaves the global random state as it was."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_key_value_heads,
        max_position_embeddings=max_position_embeddings,
        tie_word_embeddings=tie_word_embeddings,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = LlamaForCausalLM(config).to(getattr(torch, dtype))
    network.set_attn_implementation(attn_implementation)
    return _for_training(network, gradient_checkpointing)


def check_vocabulary(network: nn.Module, tokenizer: Any) -> None:
    """Refuse a tokenizer with ids that the embedding has no row for (B9); spare rows are fine and never removed (B10).

    Raises:
        UserError: the tokenizer is larger than the embedding.
    """
    rows = causal_lm(network).get_input_embeddings().num_embeddings  # type: ignore[operator]
    if len(tokenizer) > rows:
        raise UserError(
            f"model and tokenizer do not match: the tokenizer has {len(tokenizer)} ids, the embedding {rows} rows; "
            "use the tokenizer that came with the model (model.tokenizer.name_or_path)"
        )


def causal_lm(network: nn.Module) -> nn.Module:
    """Return the `transformers` causal LM inside `network`, which may be wrapped by peft."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network  # type: ignore[operator]


def hidden_states(
    network: nn.Module,
    input_ids: Tensor,
    position_ids: Tensor | None = None,
    document_lengths: Sequence[int] | None = None,
) -> Tensor:
    """Run the body of the network without its head.

    Args:
        network: a causal LM, with or without a peft wrapper.
        input_ids: `[batch, length]`. Right padding needs no mask: attention is causal.
        position_ids: `[batch, length]`, restarting at 0 with each document.
        document_lengths: of the flattened batch, padding included, for rows of several documents, which then do not see
            one another. With another attention than `documents` transformers reads them from `position_ids`, because
            there is no mask and the cache is off.

    Returns:
        Final hidden states `[batch, length, width]`.
    """
    lm: Any = causal_lm(network)
    body = getattr(lm, lm.base_model_prefix)
    arguments: dict[str, Any] = {}
    if document_lengths is not None and lm.config._attn_implementation == DOCUMENTS:
        arguments = document_arguments(document_lengths, input_ids)
    return body(input_ids=input_ids, position_ids=position_ids, use_cache=False, **arguments).last_hidden_state


def new_cache() -> Any:
    """An empty key/value cache for `cached_hidden_states`; `crop(-n)` forgets its last n positions."""
    from transformers import DynamicCache

    return DynamicCache()


def cached_hidden_states(
    network: nn.Module, input_ids: Tensor, position_ids: Tensor, cache: Any, visible: Tensor | None = None
) -> Tensor:
    """Run the body on tokens that follow those in a cache, which grows by them.

    Args:
        network: a causal LM, with or without a peft wrapper.
        input_ids: `[batch, length]`.
        position_ids: `[batch, length]`.
        cache: from `new_cache`.
        visible: boolean `[batch, 1, length, cached + length]`, what each token sees; None is everything before it.

    Returns:
        Final hidden states `[batch, length, width]`.
    """
    lm: Any = causal_lm(network)
    mask = None
    if visible is not None:
        dtype = next(lm.parameters()).dtype
        mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
        mask.masked_fill_(~visible, torch.finfo(dtype).min)
    body = getattr(lm, lm.base_model_prefix)
    return body(
        input_ids=input_ids, position_ids=position_ids, attention_mask=mask, past_key_values=cache, use_cache=True
    ).last_hidden_state


def output_head(network: nn.Module) -> nn.Module:
    """Return the module that maps hidden states `[..., width]` to logits `[..., vocabulary]`.

    Where LoRA trains the head in full, that is its trained copy.
    """
    head: Any = causal_lm(network).get_output_embeddings()  # type: ignore[operator]
    trained = getattr(head, "modules_to_save", None)
    if trained is not None and not head.disable_adapters and head.active_adapters[0] in trained:
        return trained[head.active_adapters[0]]
    return head


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Switch dropout and the like off, and restore the mode of every submodule afterwards."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def gathered(parameters: Iterable[nn.Parameter], modifier_rank: int | None = None) -> AbstractContextManager[Any]:
    """Return a context in which parameters that ZeRO-3 has sharded are whole; a collective call of all ranks.

    What `modifier_rank` writes into them is kept.
    """
    sharded = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not sharded:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(sharded, modifier_rank=modifier_rank)


def _for_training(network: Any, gradient_checkpointing: bool) -> nn.Module:
    network.config.use_cache = False
    network.train()  # from_pretrained leaves it in evaluation mode
    if gradient_checkpointing:
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return network
