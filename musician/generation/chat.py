"""A conversation in the terminal: answers appear as they are written, Ctrl-C stops one, `/undo` takes one back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console

from musician.data.rendering.conversation import Message

_HELP = "Ctrl-C stops an answer; /undo takes the last exchange back; /new begins again; /quit or Ctrl-D ends."


def chat(answer: Callable[[Sequence[Message]], Iterator[str]], console: Console | None = None) -> list[Message]:
    """Talk until the user leaves, and return the conversation. What is typed is what the model gets.

    Args:
        answer: pieces of the answer to a conversation.
        console: where to talk.
    """
    console = console or Console(highlight=False)
    console.print(_HELP, style="dim")
    messages: list[Message] = []
    while True:
        try:
            typed = console.input("[bold]> [/bold]")
        except (EOFError, KeyboardInterrupt):
            console.print()
            return messages
        if typed in ("/quit", "/undo", "/new"):
            if typed == "/quit":
                return messages
            messages = messages[:-2] if typed == "/undo" else []
            console.print(f"{len(messages) // 2} exchanges", style="dim")
        elif typed.strip():
            messages = [*messages, Message("user", typed)]
            messages.append(Message("assistant", _show(answer(messages), console)))


def _show(pieces: Iterator[str], console: Console) -> str:
    written = ""
    try:
        for piece in pieces:
            written += piece
            console.print(piece, end="", markup=False, emoji=False, soft_wrap=True)
    except KeyboardInterrupt:
        console.print(" [stopped]", style="dim", markup=False, end="")
    console.print()
    return written
