"""Training a Llama whose adapters are folded into its weights for each pass: `hardware.fold_lora`.

Without dropout `W x + s B A x` is `(W + s B A) x`. Folding costs `2 r` FLOPs a weight once a pass and saves the two
narrow products of every adapter in the forward pass and one of them in the backward pass, with the whole activations
that they would read and write; `A` and `B` get the gradients they always get. Around that the layer is two autograd
functions, which keep what the backward pass needs and nothing else, multiply by one matrix for query, key and value and
by one for gate and up, and fold the norm's weight into both.

Attention stays `musician.model.attention`; embedding, final norm and head stay the network's own modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from musician.model import attention
from musician.model.llama import unlike_llama
from musician.model.network import causal_lm
from musician.model.products import times
from musician.model.ranges import ATTENTION, MLP, REST


def refusal(network: nn.Module) -> str | None:
    """Why the layers of a network cannot be computed folded; None where they can."""
    lm: Any = causal_lm(network)
    reason = unlike_llama(lm)
    if reason:
        return reason
    if lm.config._attn_implementation != attention.DOCUMENTS:
        return f"attn_implementation={lm.config._attn_implementation} is not documents"
    if any(getattr(module, "gradient_checkpointing", False) for module in lm.modules()):
        return "gradient checkpointing"
    for layer in lm.model.layers:
        linears = [m for group in _linears(layer) for m in group]
        adapters = [parameter for linear in linears for pair in _adapters(linear) for parameter in pair[:2]]
        reason = next(filter(None, map(_cannot_fold, linears)), None)
        if reason:
            return reason
        trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
        if {id(p) for p in trained} - {id(p) for p in adapters}:
            return "weights besides the adapters are trained"
        if {p.dtype for p in layer.parameters()} != {lm.model.norm.weight.dtype}:
            return "adapters and frozen weights are of different types"
    return None


class FoldedLlama:
    """The body of a Llama with adapters, for training.

    Keeps a copy of the layers' weights, in which the adapters are folded.

    Args:
        network: a `LlamaForCausalLM`, with or without a peft wrapper, for which `refusal` is None.
    """

    def __init__(self, network: nn.Module) -> None:
        lm: Any = causal_lm(network)
        self._body = lm.model
        self._layers = [_Layer(layer, lm.config) for layer in lm.model.layers]

    def fold(self) -> None:
        """Take the adapters as they are now; once before each pass, not between a pass and its backward pass."""
        # A validation in inference mode must not make the copy a tensor that training cannot write to.
        with torch.inference_mode(False), torch.no_grad():
            for layer in self._layers:
                layer.fold()

    def __call__(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Run the body without the head, as `musician.model.network.hidden_states` does.

        Args:
            input_ids: `[batch, length]`.
            position_ids: `[batch, length]`; where they restart at 0 a new document begins.

        Returns:
            Final hidden states `[batch, length, width]`.
        """
        batch, length = input_ids.shape
        with record_function(REST):
            states = self._body.embed_tokens(input_ids).flatten(0, 1)
            cos, sin = self._body.rotary_emb(states, position_ids.flatten()[None])
            lengths = attention.document_lengths(position_ids)
            for layer in self._layers:
                states = layer(states, cos[0, :, None], sin[0, :, None], lengths)
            return self._body.norm(states).view(batch, length, -1)


class _Layer:
    """One decoder layer over `[tokens, width]`."""

    def __init__(self, layer: Any, config: Any) -> None:
        query_key_value, output, gate_up, down = _linears(layer)
        self.before = _Folded(query_key_value, layer.input_layernorm.weight)
        self.after = _Folded(gate_up, layer.post_attention_layernorm.weight)
        self.output, self.down = _Folded(output), _Folded(down)
        self.epsilon = config.rms_norm_eps
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.scaling = layer.self_attn.scaling

    def fold(self) -> None:
        for weights in (self.before, self.output, self.after, self.down):
            weights.fold()

    def __call__(self, states: Tensor, cos: Tensor, sin: Tensor, lengths: list[int]) -> Tensor:
        with record_function(ATTENTION):
            joined = _Projections.apply(states, cos, sin, self, *self.before.adapters)
            sizes = (self.heads, self.kv_heads, self.kv_heads)
            query, key, value = (part.transpose(0, 1)[None] for part in joined.split(sizes, 1))
            mixed = attention.loop(query, key, value, lengths, 0.0, self.scaling).flatten(1)
        with record_function(MLP):
            rest = chain(self.output.adapters, self.after.adapters, self.down.adapters)
            return _OutputAndMLP.apply(mixed, states, self, *rest)


class _Folded:
    """Linear layers that read the same states, as one matrix in which their adapters are folded.

    Args:
        linears: frozen linear layers, with plain peft adapters or none.
        norm: weight `[in]` of the norm before them, folded as well; the states come in without it.
    """

    def __init__(self, linears: Sequence[Any], norm: Tensor | None = None) -> None:
        bases = [getattr(linear, "base_layer", linear).weight for linear in linears]
        ends = list(accumulate(len(base) for base in bases))
        self._parts = list(zip([0, *ends], ends, bases, map(_adapters, linears), strict=False))
        self._norm = norm
        self.weight = torch.empty(0)
        #: A and B of each adapter, as they are given to autograd.
        self.adapters = [matrix for *_, adapters in self._parts for a, b, _ in adapters for matrix in (a, b)]

    def fold(self) -> None:
        last = self._parts[-1][2]
        if self.weight.device != last.device or not len(self.weight):  # a trainer may have moved the network
            self.weight = last.new_empty(self._parts[-1][1], last.shape[1])
        for start, end, base, adapters in self._parts:
            part = self.weight[start:end].copy_(base)
            for a, b, scaling in adapters:
                part.addmm_(b, a, alpha=scaling)
        if self._norm is not None:
            self.weight.mul_(self._norm)

    def gradients(self, states: Tensor, grad: Tensor) -> list[Tensor]:
        """Gradients of `adapters`.

        Args:
            states: `[tokens, in]`, what was multiplied.
            grad: `[tokens, out]`, gradient of the product.
        """
        found = []
        for start, end, _, adapters in self._parts:
            for a, b, scaling in adapters:
                part = grad[:, start:end]
                inner = a if self._norm is None else a * self._norm
                grad_a = (part @ b).mul_(scaling).T @ states
                # Written so that the long side of B is the contiguous one: a fifth faster than its transpose.
                grad_b = (states @ inner.T).mul_(scaling).T @ part
                found += [grad_a if self._norm is None else grad_a.mul_(self._norm), grad_b.T.contiguous()]
        return found


class _Projections(torch.autograd.Function):
    """Norm, query, key and value, rotary positions: `[tokens, width]` to `[tokens, all heads, head width]`."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, cos: Tensor, sin: Tensor, layer: _Layer, *adapters: Tensor) -> Tensor:
        normed, inverse = _normed(states, layer.epsilon)
        joined = times(normed, layer.before.weight).view(len(states), -1, cos.shape[-1])
        turned = joined[:, : layer.heads + layer.kv_heads]
        turned.copy_(_rotated(turned, cos, sin))
        ctx.save_for_backward(normed, inverse, cos, sin)
        ctx.layer = layer
        return joined

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        normed, inverse, cos, sin = ctx.saved_tensors
        layer, grad = ctx.layer, grad_outputs[0]
        turned = layer.heads + layer.kv_heads
        grad = torch.cat((_rotated(grad[:, :turned], cos, -sin), grad[:, turned:]), 1).flatten(1)
        grad_states = None
        if ctx.needs_input_grad[0]:  # not in the first layer, over frozen embeddings
            grad_states = _normed_backward(times(grad, layer.before.weight.T), normed, inverse)
        return grad_states, None, None, None, *layer.before.gradients(normed, grad)


class _OutputAndMLP(torch.autograd.Function):
    """What follows attention: its output projection, the residual, norm, gate, up, down, the residual."""

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, states: Tensor, layer: _Layer, *adapters: Tensor) -> Tensor:
        middle = times(mixed, layer.output.weight, plus=states)
        normed, inverse = _normed(middle, layer.epsilon)
        gate, up = times(normed, layer.after.weight).chunk(2, dim=-1)
        ctx.save_for_backward(mixed, normed, inverse, gate, up)
        ctx.layer = layer
        return times(nn.functional.silu(gate).mul_(up), layer.down.weight, plus=middle)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        mixed, normed, inverse, gate, up = ctx.saved_tensors
        layer, grad = ctx.layer, grad_outputs[0].contiguous()
        passed = nn.functional.silu(gate)
        down = layer.down.gradients(passed * up, grad)
        grad_inner = times(grad, layer.down.weight.T)
        grad_gate_up = torch.empty(len(gate), 2 * gate.shape[1], dtype=gate.dtype, device=gate.device)
        grad_gate, grad_up = grad_gate_up.chunk(2, dim=-1)
        torch.mul(grad_inner, passed, out=grad_up)
        grad_gate.copy_(torch.ops.aten.silu_backward(grad_inner.mul_(up), gate))
        after = layer.after.gradients(normed, grad_gate_up)
        grad_middle = _normed_backward(times(grad_gate_up, layer.after.weight.T), normed, inverse).add_(grad)
        output = layer.output.gradients(mixed, grad_middle)
        return times(grad_middle, layer.output.weight.T), grad_middle, None, *output, *after, *down


def _normed(states: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """RMS norm without its weight, and the factor `[tokens, 1]` by which it scaled."""
    inverse = torch.linalg.vector_norm(states, dim=-1, keepdim=True).square_().div_(states.shape[-1])
    inverse = inverse.add_(epsilon).rsqrt_()
    return states * inverse, inverse


def _normed_backward(grad: Tensor, normed: Tensor, inverse: Tensor) -> Tensor:
    """Gradient of what `_normed` was given; writes into `grad`."""
    along = (grad * normed).mean(-1, keepdim=True)
    return grad.addcmul_(normed, along, value=-1).mul_(inverse)


def _rotated(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions of `[tokens, heads, head width]`; with `-sin` the other way round.

    `cat(-second half, first half)` of the published form is a roll whose sign is in the table.
    """
    half = states.shape[-1] // 2
    signed = torch.cat((-sin[..., :half], sin[..., half:]), -1)
    return torch.addcmul(states * cos, states.roll(half, -1), signed)


def _linears(layer: Any) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """The linear layers of a decoder layer: those that read the same states together."""
    attend, mlp = layer.self_attn, layer.mlp
    return [attend.q_proj, attend.k_proj, attend.v_proj], [attend.o_proj], [mlp.gate_proj, mlp.up_proj], [mlp.down_proj]


def _adapters(linear: Any) -> list[tuple[nn.Parameter, nn.Parameter, float]]:
    """A `[r, in]`, B `[out, r]` and scaling of the active adapters of a layer."""
    names = [name for name in getattr(linear, "active_adapters", ()) if name in linear.lora_A]
    return [(linear.lora_A[name].weight, linear.lora_B[name].weight, linear.scaling[name]) for name in names]


def _cannot_fold(linear: Any) -> str | None:
    """Why a linear layer is not one matrix with plain adapters."""
    from peft.tuners.lora import Linear

    if type(linear) is nn.Linear:
        return None
    if not isinstance(linear, Linear) or type(linear.base_layer) is not nn.Linear or linear.lora_variant:
        return "adapters that are not plain LoRA"
    if linear.merged or linear.disable_adapters:
        return "adapters that are merged or switched off"
    if any(linear.lora_dropout[name].p for name in linear.active_adapters if hasattr(linear.lora_dropout[name], "p")):
        return "lora_dropout is not 0"
    if any(linear.lora_B[name].bias is not None for name in linear.active_adapters if name in linear.lora_B):
        return "adapters with a bias"
    return None
