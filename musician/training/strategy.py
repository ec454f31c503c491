"""DeepSpeed's ZeRO through Lightning, on GPUs and on CPU processes alike."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import DeepSpeedStrategy
from torch import Tensor, nn

from musician.model.logits import logits_head
from musician.runtime.errors import UserError
from musician.training.state import gather_state, shard_state


class ZeroStrategy(DeepSpeedStrategy):
    """`DeepSpeedStrategy` that also runs on CPU processes over gloo, so that tests run the real engine.

    Checkpoints hold the trainable weights only. No field of the resolved DeepSpeed config is `auto` (DeepSpeed drops
    such fields without a word, so the original's offload never happened: B20).

    Args:
        stage: what is sharded over the ranks: 1 the optimiser's state, 2 and gradients, 3 and all weights, frozen ones
            too. A frozen base that fits a device is better not sharded: stages 1 and 2.
        micro_batch_size: rows a device computes at once, for DeepSpeed's own log.
        offload_optimizer: keep the optimiser's state in CPU memory and step there, with torch's own optimiser.
        offload_parameters: keep sharded weights in CPU memory (stage 3).
        persistence_threshold: stage 3 keeps weights of at most so many numbers whole on every rank.
        initial_scale_power: first fp16 loss scale, as a power of two.
        loss_scale_window: steps without overflow before the scale doubles.
        min_loss_scale: scale at which training stops with a diagnosis.
        timeout: seconds that a process waits for another in one exchange before the job ends.

    Raises:
        UserError: no such stage, or sharded weights to offload without stage 3.
    """

    def __init__(
        self,
        stage: int = 2,
        micro_batch_size: int = 1,
        offload_optimizer: bool = False,
        offload_parameters: bool = False,
        persistence_threshold: int = 100_000,
        initial_scale_power: int = 16,
        loss_scale_window: int = 1000,
        min_loss_scale: float = 1.0,
        timeout: float = 1800,
    ) -> None:
        if stage not in (1, 2, 3):
            raise UserError(f"hardware.strategy.stage={stage}: ZeRO has stages 1, 2 and 3")
        if offload_parameters and stage != 3:
            raise UserError(f"hardware.strategy.offload_parameters: stage {stage} shards no weights; set stage=3")
        super().__init__(
            stage=stage,
            offload_optimizer=offload_optimizer,
            offload_parameters=offload_parameters,
            initial_scale_power=initial_scale_power,
            loss_scale_window=loss_scale_window,
            min_loss_scale=int(min_loss_scale),
            logging_batch_size_per_gpu=micro_batch_size,
            exclude_frozen_parameters=True,
            timeout=timedelta(seconds=timeout),
        )
        assert isinstance(self.config, dict)
        self.config["zero_optimization"]["stage3_param_persistence_threshold"] = persistence_threshold
        # Else DeepSpeed refuses torch's AdamW beside offload and wants its own, which has to be compiled.
        self.config["zero_force_ds_cpu_optimizer"] = False

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
        if (
            "CROSS_RANK" in os.environ
        ):  # where DeepSpeed's own launcher puts the number of the node; Lightning does not read it
            os.environ.setdefault("NODE_RANK", os.environ["CROSS_RANK"])
        if not isinstance(self.accelerator, CPUAccelerator):
            super().setup_environment()
            return
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        super(DeepSpeedStrategy, self).setup_environment()

    def init_deepspeed(self) -> None:
        """Start the engine.

        Raises:
            UserError: stage 3 with LoRA on the output head.
        """
        super().init_deepspeed()
        if self.zero_stage_3:
            self._gather_head_with_the_step()

    def _gather_head_with_the_step(self) -> None:
        # The loss uses the head's matrix by itself, and as often as this rank has chunks of positions. Gathered by
        # calls of its module it would be gathered another number of times on each rank, and they would wait for ever.
        from deepspeed.runtime.zero import register_external_parameter

        module: Any = self.lightning_module
        head = logits_head(module.network)
        if type(head) is not nn.Linear:
            raise UserError(
                "hardware.strategy.stage=3 cannot shard an output head with LoRA, or one whose logits are scaled or "
                "caps; take lm_head out of lora.target_modules, or set stage=2"
            )
        for parameter in head.parameters():
            register_external_parameter(module, parameter)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write one file in Lightning's plain format, which any strategy continues from."""
        gather_state(checkpoint, self.deepspeed_engine, self.lightning_module)
        super(DeepSpeedStrategy, self).save_checkpoint(checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Continue from a state that any strategy wrote."""
        # Mapped: the ranks of a node share the memory.
        state: dict[str, Any] = torch.load(checkpoint_path, map_location="cpu", mmap=True, weights_only=False)
        shard_state(state, self.deepspeed_engine, self.lightning_module)
        return state

    def backward(self, closure_loss: Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Run the backward pass; Lightning has already divided by the accumulation steps, DeepSpeed must not again."""
        return super().backward(closure_loss, optimizer, *args, scale_wrt_gas=False, **kwargs)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> Any:
        """Step the engine, which skips the update where fp16 gradients overflowed.

        Raises:
            UserError: they still overflow at the smallest loss scale.
        """
        try:
            return super().optimizer_step(*args, **kwargs)
        except Exception as error:  # DeepSpeed raises no narrower class
            if "loss scale already at minimum" not in str(error):
                raise
            engine: Any = self.model
            raise UserError(
                f"fp16: the gradients overflow at the smallest loss scale, {engine.optimizer.loss_scale:g}, after "
                f"{engine.skipped_steps} skipped steps of {engine.global_steps}: training has diverged; lower "
                "optimizer.lr or use a bf16 card; the last checkpoint is untouched"
            ) from error
