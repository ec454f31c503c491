"""Ask a model: `python -m musician.generate model=outputs/sft/RUN prompt='Write a reel in D.'`."""

from __future__ import annotations

from hydra.utils import instantiate
from omegaconf import DictConfig

from musician.launch import door


@door("generate")
def main(cfg: DictConfig) -> None:
    """Open the model and print its answer."""
    from musician.data.conversation import Message
    from musician.hardware import best_device
    from musician.inference.sampling import answer
    from musician.restore import restore

    device, dtype = best_device()
    model = cfg.model
    opened = restore(model.path, model.base, model.dtype or dtype, model.device or device, model.template)
    print(answer(opened.network, opened.renderer, [Message("user", cfg.prompt)], instantiate(cfg.generation)))


if __name__ == "__main__":
    main()
