"""How the turns of a conversation are written down: data, not code."""

from __future__ import annotations

from dataclasses import dataclass

from musician.runtime.errors import UserError, nearest

CONTENT = "{content}"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """How turns are written down.

    A turn is a tuple of segments. `{bos}` and `{eos}` stand for the special tokens; any other segment is text, in which
    `{content}` stands for the message. In an assistant turn the segment with the content and the `{eos}` after it are
    supervised, nothing else. `separator` goes between an assistant turn and the next one.
    """

    name: str
    user: tuple[str, ...]
    assistant: tuple[str, ...]
    system: tuple[str, ...]
    separator: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for role in ("user", "assistant", "system"):
            if sum(CONTENT in segment for segment in getattr(self, role)) != 1:
                raise UserError(f"template '{self.name}': the {role} turn must have exactly one segment with {CONTENT}")
        if self.assistant[-1] != "{eos}" or CONTENT not in self.assistant[-2]:
            raise UserError(
                f"template '{self.name}': an assistant turn must end in a segment with {CONTENT} and {{eos}}"
            )


TEMPLATES = {
    template.name: template
    for template in (
        # The paper's dialogue format, with the end of each turn as a real token and no blank around it.
        ChatTemplate(
            name="human_assistant",
            system=(" {content}", "{eos}"),
            user=(" Human:", " {content}", "{eos}"),
            assistant=(" Assistant:", " {content}", "{eos}"),
        ),
        # What the released ChatMusician checkpoints were trained on, blanks around </s> included (features B1-B4).
        ChatTemplate(
            name="chatmusician",
            system=("{content}", "{eos}", " "),
            user=(" Human:", " {content} ", "{eos}", " "),
            assistant=(" Assistant:", " {content} ", "{eos}"),
            separator=(" ",),
        ),
        # For tokenizers whose bos and eos are <|im_start|> and <|im_end|>.
        ChatTemplate(
            name="chatml",
            system=("{bos}", "system\n", "{content}", "{eos}", "\n"),
            user=("{bos}", "user\n", "{content}", "{eos}", "\n"),
            assistant=("{bos}", "assistant\n", "{content}", "{eos}"),
            separator=("\n",),
        ),
    )
}


def find_template(name: str) -> ChatTemplate:
    """Look a template up by name.

    Raises:
        UserError: there is none of this name.
    """
    if name not in TEMPLATES:
        raise UserError(f"unknown chat template '{name}'{nearest(name, TEMPLATES)}; one of {sorted(TEMPLATES)}")
    return TEMPLATES[name]
