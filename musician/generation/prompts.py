"""A file of prompts answered in batches, each answer written down when it is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from musician.data.rendering.conversation import Conversation, Message, read_row
from musician.data.rendering.render import Renderer
from musician.generation.chunk import Forward
from musician.generation.constraint import GrammarConstraint
from musician.generation.decoder import complete
from musician.generation.sampling import Sampling
from musician.runtime.errors import UserError
from musician.runtime.progress import track


def read_prompts(path: str | Path) -> list[list[Message]]:
    """Conversations of a JSON-lines file; a row has `prompt`, or `messages` whose last is the user's.

    Raises:
        UserError: no such file, or a row that is neither.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"prompts {path}: no such file; give JSON lines with `prompt` or `messages`")
    prompts = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            prompts.append(_messages(line, f"prompts {path} line {number}"))
    if not prompts:
        raise UserError(f"prompts {path}: is empty; give JSON lines with `prompt` or `messages`")
    return prompts


def _messages(line: str, where: str) -> list[Message]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: is not JSON ({error})") from error
    if isinstance(row, dict) and isinstance(row.get("prompt"), str):
        return [Message("user", row["prompt"])]
    if isinstance(row, dict) and "messages" in row:
        found = read_row(row)
        if isinstance(found, Conversation) and found.messages[-1].role == "user":
            return list(found.messages)
    raise UserError(f"{where}: needs `prompt`, a text, or `messages` that end with the user's")


def answer_file(
    forward: Forward,
    renderer: Renderer,
    prompts: list[list[Message]],
    output: Path,
    sampling: Sampling,
    constraint: GrammarConstraint | None = None,
) -> int:
    """Append an answer a prompt to a JSON-lines file and return how many were made now.

    A line holds `index`, `messages`, `sampling`, `constrain`, `answer`; lines stand in the order of the answers' ends.
    The seed of prompt `i` is `sampling.seed + i`, so an answer does not depend on the others; `sampling` holds it. What
    the file holds already is kept: a killed run goes on; a last line that was cut is made again.

    Args:
        forward: from `prepare`.
        renderer: renders the prompts as in training.
        prompts: conversations, from `read_prompts`.
        output: the file.
        sampling: how to draw.
        constraint: hold every answer to a tune; from `answer_constraint`.

    Raises:
        UserError: the file holds answers to other prompts or with other settings.
    """
    done = _done(output)
    todo = []
    for index, messages in enumerate(prompts):
        item = replace(sampling, seed=sampling.seed + index)
        record = {
            "index": index,
            "messages": [asdict(message) for message in messages],
            "sampling": asdict(item),
            "constrain": asdict(constraint.grammar.constraints) if constraint else None,
        }
        if index not in done:
            todo.append((record, messages, item))
        elif {name: done[index].get(name) for name in record} != record:
            raise UserError(f"{output}: holds an answer to another prompt {index} or with other settings; name another")
    output.parent.mkdir(parents=True, exist_ok=True)
    asked = [(renderer.prompt_ids(messages), item) for _, messages, item in todo]
    answers = complete(forward, asked, renderer.tokenizer.eos_token_id, constraint)
    with output.open("a", encoding="utf-8") as file:
        for number, ids in track(answers, "answering prompts", total=len(todo)):
            answer = {**todo[number][0], "answer": renderer.read_answer(ids)}
            file.write(json.dumps(answer, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    return len(todo)


def _done(output: Path) -> dict[int, dict[str, Any]]:
    """Answers that stand in the file, by index; a last line without its end is cut off."""
    if not output.exists():
        return {}
    whole = output.read_bytes()
    kept = whole[: whole.rfind(b"\n") + 1]
    if kept != whole:
        os.truncate(output, len(kept))
    return {record["index"]: record for record in _records(kept.decode(), output)}


def _records(text: str, output: Path) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            record = json.loads(line)
            record["index"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{output}: holds something else than answers; name another output") from error
        yield record
