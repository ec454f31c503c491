"""Merge a LoRA adapter into its base: `python -m musician.merge model=outputs/sft/RUN`."""

from __future__ import annotations

import shutil
from pathlib import Path

from omegaconf import DictConfig

from musician.cli.entry import command


@command("merge")
def main(cfg: DictConfig) -> None:
    """Open, merge, certify, write."""
    from musician.data.rendering.canary import canaries
    from musician.data.rendering.conversation import Document
    from musician.data.rendering.jinja import served_template
    from musician.lm.open_model import open_model
    from musician.model.checkpoint import DESCRIPTION, resolve_checkpoint
    from musician.model.merge import merge
    from musician.runtime.errors import UserError

    opened = open_model(**cfg.model, precision="32-true", device="cpu")
    assert opened.source
    adapter = opened.source.adapter
    if adapter is None:
        raise UserError(f"merge: {cfg.model.path} is a complete model already; there is no adapter to merge")
    output = Path(cfg.output_dir) if cfg.output_dir else Path(cfg.model.path) / "merged"
    tune = opened.renderer.render(Document(cfg.probe))[0].input_ids.tolist()
    # The base model's own chat template would write prompts that the adapter was not trained on.
    opened.renderer.tokenizer.chat_template = served_template(opened.renderer)
    certificate = merge(
        opened.network,
        opened.renderer.tokenizer,
        output,
        [*canaries(opened.renderer), tune],
        dtype=cfg.dtype,
        tolerance=cfg.tolerance,
        base_model=opened.source.base,
        adapter=str(adapter),
    )
    if opened.source.description:
        shutil.copy(resolve_checkpoint(adapter.parent) / DESCRIPTION, output / DESCRIPTION)
    if opened.renderer.tokenizer.chat_template is None:
        name = opened.renderer.template.name
        print(f"no chat template was written: this tokenizer, given the whole text, has other ids than '{name}'")
    print(
        f"merged: {output} (logits differ by {certificate.max_logit_difference:.2e} at most, of "
        f"{certificate.max_logit:.3g}; allowed {certificate.tolerance:.2e}; "
        f"same choice at {certificate.same_argmax:.1%} of positions)"
    )


if __name__ == "__main__":
    main()
