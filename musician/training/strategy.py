"""DeepSpeed's ZeRO through Lightning, on GPUs and on CPU processes alike."""

from __future__ import annotations

import os
from typing import Any

import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import DeepSpeedStrategy
from torch import Tensor


class ZeroStrategy(DeepSpeedStrategy):
    """`DeepSpeedStrategy` that also runs on CPU processes over gloo, so that tests run the real engine.

    Checkpoints hold the trainable weights only. No field of the resolved DeepSpeed config is `auto` (DeepSpeed drops
    such fields without a word, so the original's offload never happened: B20).

    Args:
        stage: ZeRO stage 1, 2 or 3. A frozen base that fits a device is better not sharded: use 1 or 2.
        micro_batch_size: rows a device computes at once, for DeepSpeed's own log.
        offload_optimizer: keep optimiser state in CPU memory.
        offload_parameters: keep parameters in CPU memory (stage 3).
        initial_scale_power: first fp16 loss scale, as a power of two.
        loss_scale_window: steps without overflow before the scale doubles.
        min_loss_scale: scale at which training stops with a diagnosis.
    """

    def __init__(
        self,
        stage: int = 2,
        micro_batch_size: int = 1,
        offload_optimizer: bool = False,
        offload_parameters: bool = False,
        initial_scale_power: int = 16,
        loss_scale_window: int = 1000,
        min_loss_scale: float = 1.0,
    ) -> None:
        super().__init__(
            stage=stage,
            offload_optimizer=offload_optimizer,
            offload_parameters=offload_parameters,
            initial_scale_power=initial_scale_power,
            loss_scale_window=loss_scale_window,
            min_loss_scale=int(min_loss_scale),
            logging_batch_size_per_gpu=micro_batch_size,
            exclude_frozen_parameters=True,
        )

    @property
    def parallel_devices(self) -> Any:
        """This node's devices."""
        return self._parallel_devices

    @parallel_devices.setter
    def parallel_devices(self, devices: Any) -> None:
        # Lightning's cpu devices carry no index, and DeepSpeed wants index == local rank. "cpu:1" still means the CPU.
        if devices:
            devices = [torch.device("cpu", i) if d.type == "cpu" else d for i, d in enumerate(devices)]
        self._parallel_devices = devices

    def setup_environment(self) -> None:
        """Start the process group; on CPU without the CUDA check and the C++ build of a shared-memory reduce."""
        if not isinstance(self.accelerator, CPUAccelerator):
            super().setup_environment()
            return
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        super(DeepSpeedStrategy, self).setup_environment()

    def backward(self, closure_loss: Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Run the backward pass; Lightning has already divided by the accumulation steps, DeepSpeed must not again."""
        return super().backward(closure_loss, optimizer, *args, scale_wrt_gas=False, **kwargs)
