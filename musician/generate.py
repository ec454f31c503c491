"""Ask a model: `python -m musician.generate model=outputs/sft/RUN prompt='Write a reel in D.'`."""

from __future__ import annotations

from hydra.utils import instantiate
from omegaconf import DictConfig

from musician.cli.entry import command


@command("generate")
def main(cfg: DictConfig) -> None:
    """Open the model; answer one prompt, a file of them, or whatever is typed."""
    from pathlib import Path

    from musician.cli.arguments import model_or_default
    from musician.data.rendering.conversation import Message
    from musician.generation.chat import chat
    from musician.generation.constraint import answer_constraint
    from musician.generation.forward import prepare
    from musician.generation.prompts import answer_file, read_prompts
    from musician.generation.stream import stream
    from musician.lm.open_model import open_model
    from musician.music.grammar import TuneConstraints
    from musician.runtime.errors import UserError

    if sum((cfg.prompt is not None, cfg.prompts is not None, bool(cfg.chat))) != 1:
        raise UserError("generate: give one of prompt='...', prompts=FILE.jsonl and chat=true")
    if cfg.constrain not in (None, "abc"):
        raise UserError(f"generate: constrain={cfg.constrain}: must be abc or null")
    constraints, sampling = TuneConstraints(**cfg.tune), instantiate(cfg.generation)
    prompts = read_prompts(cfg.prompts) if cfg.prompts else []
    model = open_model(**{**cfg.model, "path": model_or_default(cfg.model.path)})
    renderer, forward = model.renderer, prepare(model.merged())
    constraint = answer_constraint(renderer, constraints) if cfg.constrain else None
    if cfg.prompts:
        output = Path(cfg.output or f"{Path(cfg.prompts).with_suffix('')}.answers.jsonl")
        made = answer_file(forward, renderer, prompts, output, sampling, constraint)
        print(f"{output}: {made} answers made, {len(prompts) - made} were there")
    elif cfg.chat:
        chat(lambda messages: stream(forward, renderer, messages, sampling, constraint))
    else:
        messages = [Message("user", cfg.prompt)]
        for piece in stream(forward, renderer, messages, sampling, constraint):
            print(piece, end="", flush=True)
        print()


if __name__ == "__main__":
    main()
