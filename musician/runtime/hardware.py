"""A machine: what it can do, and how a global batch is cut up for it. Pure arithmetic and capability checks."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from musician.runtime.errors import UserError, nearest

#: Compute capability from which the hardware has bf16 (Ampere). `torch.cuda.is_bf16_supported` also counts emulation.
BF16_CAPABILITY = (8, 0)

#: Types that matrices are multiplied in, by the beginning of Lightning's name for the precision; else fp32.
DTYPES = {"bf16": "bfloat16", "16": "float16", "64": "float64"}

#: Attention by transformers' name (`documents` is ours): least compute capability of its kernels; None where the CPU
#: has them too.
ATTENTION: dict[str, tuple[int, int] | None] = {
    "documents": None,
    "sdpa": None,
    "eager": None,
    "flash_attention_2": (8, 0),
    "flash_attention_3": (9, 0),
    "flex_attention": (8, 0),  # Triton: below, its matrix products miss the tensor cores
}


@dataclass(frozen=True)
class Hardware:
    """One option of the `hardware` group.

    Attributes:
        name: the option's name, for messages.
        accelerator: `cpu` or `gpu`.
        devices: processes (and GPUs) a node.
        num_nodes: nodes.
        precision: as Lightning names it: `32-true`, `16-mixed`, `bf16-mixed`, `bf16-true`, ...; `auto` becomes
            `bf16-mixed` where the machine multiplies bf16 natively.
        dtype: type the frozen weights are loaded in; `auto` becomes that of the precision.
        micro_batch_size: rows a device computes at once.
        strategy: name of one of Lightning's strategies, or the arguments of ZeRO.
        num_workers: processes a rank that build batches; they never exceed cores / ranks.
        attn_implementation: attention of the network, as transformers names it.
        gradient_checkpointing: recompute activations in the backward pass.
        memory_gib: memory of a card; None where it is not known.
        peak_flops: dense FLOP/s of a card in this precision, from the vendor's data sheet.
        card_bandwidth: bytes/s that a card exchanges with those of its node in a collective, assumed by `plan`.
        node_bandwidth: bytes/s of a node's network in each direction, assumed by `plan`.
        capability: compute capability of the card; `plan` goes by it, a job by that of the card it finds.
        torch_pin: the last torch whose wheels hold kernels for the card, where that is not the newest.
    """

    name: str
    accelerator: Literal["cpu", "gpu"] = "cpu"
    devices: int = 1
    num_nodes: int = 1
    precision: str = "32-true"
    dtype: str = "auto"
    micro_batch_size: int = 1
    strategy: str | Mapping[str, Any] = "auto"
    num_workers: int = 0
    attn_implementation: str = "sdpa"
    gradient_checkpointing: bool = False
    capability: Sequence[int] | None = None
    torch_pin: str | None = None
    memory_gib: float | None = None
    peak_flops: float | None = None
    card_bandwidth: float | None = None
    node_bandwidth: float | None = None

    def __post_init__(self) -> None:
        if self.precision == "auto":
            object.__setattr__(self, "precision", self._best_precision())
        if self.dtype == "auto":
            object.__setattr__(self, "dtype", DTYPES.get(self.precision.split("-")[0], "float32"))

    def _best_precision(self) -> str:
        if self.accelerator == "cpu":
            return "bf16-mixed" if native_bf16() else "32-true"
        return "bf16-mixed" if tuple(self.capability or BF16_CAPABILITY) >= BF16_CAPABILITY else "16-mixed"

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.devices * self.num_nodes

    @property
    def zero_stage(self) -> int | None:
        """Stage of ZeRO; None without."""
        return None if isinstance(self.strategy, str) else int(self.strategy["stage"])

    @property
    def workers_per_rank(self) -> int:
        """`num_workers`, at most this rank's share of the cores."""
        return min(self.num_workers, (os.cpu_count() or 1) // self.devices)

    def accumulation_steps(self, global_batch_size: int) -> int:
        """Micro-batches each rank accumulates so that one optimiser step sees `global_batch_size` rows.

        Raises:
            UserError: the split is impossible.
        """
        per_pass = self.micro_batch_size * self.world_size
        steps, remainder = divmod(global_batch_size, per_pass)
        if steps == 0 or remainder:
            raise UserError(
                f"global_batch_size={global_batch_size} is not a multiple of {per_pass} rows a pass "
                f"(hardware={self.name}: {self.num_nodes} nodes x {self.devices} devices x micro_batch_size "
                f"{self.micro_batch_size}); use {self._nearest_split(global_batch_size)}"
            )
        return steps

    def _nearest_split(self, global_batch_size: int) -> str:
        """The change that makes a global batch divide; one of the global batch itself comes last."""
        for key in ("micro_batch_size", "devices"):
            for fewer in range(getattr(self, key) - 1, 0, -1):
                per_pass = self.micro_batch_size * self.world_size // getattr(self, key) * fewer
                if global_batch_size % per_pass == 0:
                    return f"hardware.{key}={fewer}"
        per_pass = self.micro_batch_size * self.world_size
        below = global_batch_size // per_pass * per_pass
        return f"global_batch_size={below or per_pass}" + (f" or {below + per_pass}" if below else "")

    def check_settings(self) -> None:
        """Refuse settings that no machine can have together.

        Raises:
            UserError: an attention that is not known, or that the CPU lacks; fp16 on the CPU, or without ZeRO.
        """
        if self.attn_implementation not in ATTENTION:
            hint = nearest(self.attn_implementation, ATTENTION)
            raise UserError(
                f"hardware.attn_implementation={self.attn_implementation} is not known{hint}; "
                f"use one of {sorted(ATTENTION)}"
            )
        if self.accelerator == "cpu":
            self._check_cpu()
        elif self.precision == "16-mixed" and isinstance(self.strategy, str):
            raise UserError(
                f"hardware.precision=16-mixed with hardware.strategy={self.strategy}: skipped steps would move "
                "the learning rate; use ZeRO (hardware=8xv100 hardware.devices=1 has it for one GPU) or bf16-mixed"
            )

    def check_planned(self) -> None:
        """Refuse what the card that this option describes could not do, wherever this runs.

        Raises:
            UserError: see `check_settings`; a precision or an attention that the card lacks.
        """
        self.check_settings()
        if self.capability is not None:
            major, minor = self.capability
            self._check_capability(f"its card (sm_{major}{minor})", (major, minor))

    def check(self) -> None:
        """Refuse what this machine cannot do, before anything is loaded.

        Raises:
            UserError: see `check_settings`; too few GPUs, a precision or an attention the card lacks, a torch without
                kernels for it.
        """
        self.check_settings()
        if self.accelerator == "cpu":
            return
        import torch

        found = torch.cuda.device_count()
        if found < self.devices:
            fits = "hardware=cpu" if found == 0 else f"hardware=1xh200 or hardware.devices={found}"
            raise UserError(
                f"hardware={self.name} needs {self.devices} GPUs on this node, found {found}; use {fits}, "
                "or add `--cfg job --resolve` to only see the job"
            )
        capability = torch.cuda.get_device_capability()
        self.check_card(torch.cuda.get_device_name(), capability, torch.cuda.get_arch_list())
        reason = restrict_attention(capability)
        if reason:
            logging.getLogger(__name__).info(reason)

    def _check_cpu(self) -> None:
        if self.precision not in ("32-true", "32", "64-true", "bf16-mixed", "bf16-true"):
            raise UserError(f"hardware.precision={self.precision} needs a GPU; on CPU use 32-true")
        if ATTENTION[self.attn_implementation] is not None:
            raise UserError(
                f"hardware.attn_implementation={self.attn_implementation} needs a GPU; on CPU use documents or sdpa"
            )

    def check_card(self, name: str, capability: tuple[int, int], architectures: list[str]) -> None:
        """Refuse a precision or a torch build that does not fit a card of this compute capability.

        Raises:
            UserError: naming the option or the pin that fits.
        """
        architecture = f"sm_{capability[0]}{capability[1]}"
        if not any(runs_on(built, capability) for built in architectures):
            pin = self.torch_pin or "a build of torch with its architecture"
            raise UserError(f"this torch has no kernels for {name} ({architecture}); install {pin}")
        self._check_capability(f"{name} ({architecture})", capability)

    def _check_capability(self, card: str, capability: tuple[int, int]) -> None:
        if "bf16" in self.precision and capability < BF16_CAPABILITY:
            raise UserError(f"hardware.precision={self.precision}: {card} has no bf16; use 16-mixed")
        asked, needed = self.attn_implementation, ATTENTION.get(self.attn_implementation)
        if needed is not None and capability < needed:
            raise UserError(
                f"hardware.attn_implementation={asked}: {card} has no kernels for it "
                f"(FlashAttention or fast Triton need sm_{needed[0]}{needed[1]}); use sdpa"
            )
        if asked.startswith("flash") and self.precision.startswith("32"):
            raise UserError(
                f"hardware.attn_implementation={asked} needs 16 bits, not precision={self.precision}; use sdpa"
            )
        if asked == "documents" and capability < BF16_CAPABILITY:
            raise UserError(f"hardware.attn_implementation={asked} has not been run on {card}; use sdpa")


def runs_on(architecture: str, capability: tuple[int, int]) -> bool:
    """Whether code built for an architecture runs on a card.

    Machine code (`sm_86`) needs the same major version and no newer minor; `compute_86` is compiled for newer cards.
    """
    built = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", architecture)
    if built is None:
        return False
    version = int(built[2]), int(built[3])
    return version <= capability and (built[1] == "compute" or version[0] == capability[0])


def restrict_attention(capability: tuple[int, int]) -> str | None:
    """Leave torch's SDPA only the memory-efficient kernel on a card before Ampere, in this process.

    FlashAttention and cuDNN's attention need 8.0; the math kernel would hold `[heads, length, length]` without a word
    where the memory-efficient one cannot run.

    Returns:
        The reason in one line; None where every kernel stays.
    """
    if capability >= BF16_CAPABILITY:
        return None
    from torch.backends import cuda

    cuda.enable_flash_sdp(False)
    cuda.enable_cudnn_sdp(False)
    cuda.enable_math_sdp(False)
    cuda.enable_mem_efficient_sdp(True)
    return f"attention: memory-efficient SDPA only, compute capability {capability[0]}.{capability[1]} is below 8.0"


def best_device() -> str:
    """The device to compute on when none is named: the first GPU, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def best_precision(device: str) -> tuple[str, str]:
    """The precision of a network that is not trained, by what a device multiplies natively, and the reason."""
    if device.startswith("cuda"):
        import torch

        capability = torch.cuda.get_device_capability(device)
        if capability >= BF16_CAPABILITY:
            return "bf16-true", "this GPU has bf16"
        return "16-true", "this GPU has no bf16"
    if device != "cpu":
        return "32-true", "not known what this device multiplies natively"
    if native_bf16():
        return "bf16-true", "this processor multiplies bf16 natively"
    return "32-true", "this processor has no native bf16"


def native_bf16() -> bool:
    """Whether this processor multiplies bf16 matrices natively (AVX-512 BF16, AMX or Arm's BF16), as Linux lists it.

    `MUSICIAN_NATIVE_BF16=0` or `1` in the environment answers instead.
    """
    answer = os.environ.get("MUSICIAN_NATIVE_BF16")
    if answer is not None:
        return answer == "1"
    listing = Path("/proc/cpuinfo")
    if not listing.exists():
        return False
    return re.search(r"^(flags|Features)\b.*\b(avx512_bf16|amx_bf16|bf16)\b", listing.read_text(), re.M) is not None
