"""A chat template as the Jinja text that `tokenizer.apply_chat_template` and other servers read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from musician.data.rendering.canary import PROMPTS
from musician.data.rendering.conversation import Message
from musician.data.rendering.render import Renderer
from musician.data.rendering.template import CONTENT, ChatTemplate

_SPECIALS = {"{bos}": "bos_token", "{eos}": "eos_token"}

#: Conversations on which both ways must agree; no special token is spelled out in them.
_PROBES = (*PROMPTS[:2], (Message("system", "You write ABC."), Message("user", "Hi\n")))


def served_template(renderer: Renderer) -> str | None:
    """Jinja text with which `apply_chat_template` gives the renderer's ids; None where this tokenizer has no such text.

    A server tokenises the whole text at once, and takes a special token that a user spelled out for a real one, which
    the renderer never does. Everything else is compared here, id for id, on a few conversations. SentencePiece's
    vocabularies, Llama 2's among them, have no such text: they put a blank after each special token.
    """
    text = jinja(renderer.template, renderer.add_bos)
    return text if _agrees(renderer, text) else None


def _agrees(renderer: Renderer, text: str) -> bool:
    return all(
        renderer.tokenizer.apply_chat_template(
            [asdict(message) for message in probe],
            chat_template=text,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
        )
        == renderer.prompt_ids(probe)
        for probe in _PROBES
    )


def jinja(template: ChatTemplate, add_bos: bool) -> str:
    """Jinja text that writes conversations as this template does.

    Args:
        template: how turns are written down.
        add_bos: begin with the beginning-of-sequence token.
    """
    turns = "".join(
        f"{{%- {word} message['role'] == '{role}' -%}}{_segments(getattr(template, role))}"
        for word, role in (("if", "system"), ("elif", "user"), ("elif", "assistant"))
    )
    separator = _segments(template.separator)
    return "".join(
        [
            "{{- bos_token -}}" if add_bos and template.user[0] != "{bos}" else "",
            "{%- for message in messages -%}",
            turns,
            f"{{%- if not loop.last -%}}{separator}{{%- endif -%}}" if separator else "",
            "{%- endif -%}{%- endfor -%}",
            f"{{%- if add_generation_prompt -%}}{_segments(template.assistant[:-2])}{{%- endif -%}}",
        ]
    )


def _segments(segments: Sequence[str]) -> str:
    return "".join(f"{{{{- {_expression(segment)} -}}}}" for segment in segments)


def _expression(segment: str) -> str:
    """A segment as a Jinja expression: a name, a literal, or literals around the content."""
    if segment in _SPECIALS:
        return _SPECIALS[segment]
    before, content, after = segment.partition(CONTENT)
    parts = [json.dumps(before)] if before else []
    parts += ["message['content']"] if content else []
    parts += [json.dumps(after)] if after else []
    return " + ".join(parts)
