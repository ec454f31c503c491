"""The vocabulary of a tokenizer as a tree of characters."""

from __future__ import annotations

from typing import Any

from musician.runtime.errors import UserError

#: Longer tokens (rows of blanks, long words) are left out: the further a token reaches, the less a cache can share.
_LONGEST = 16


class Node:
    """A node of the tree.

    Attributes:
        ids: tokens whose text ends here.
        children: nodes of the tokens that go on, by character.
        reach: characters of the longest token from here on.
        arrival: the character that leads here, and `reach`.
    """

    __slots__ = ("arrival", "children", "ids", "reach")

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.children: dict[str, Node] = {}
        self.reach = 0
        self.arrival = ("", 0)

    def add(self, text: str, token: int) -> None:
        """Add a token below this node."""
        node = self
        for place, character in enumerate(text):
            node.reach = max(node.reach, len(text) - place)
            node = node.children.setdefault(character, Node())
        node.ids.append(token)

    def seal(self) -> None:
        """Note how each node below is reached, when all tokens are there."""
        for character, child in self.children.items():
            child.arrival = (character, child.reach)
            child.seal()


class Vocabulary:
    """Texts of the short tokens that are ASCII, in running text; special tokens and parts of characters are left out.

    Args:
        tokenizer: a fast tokenizer.
        characters: tokens are made of these, and each must be one, so that any text of them can be written.

    Attributes:
        texts: text of each usable id.
        single: id of each character that is a token.
        root: of the tree.

    Raises:
        UserError: the tokenizer cannot write one of the characters alone.
    """

    def __init__(self, tokenizer: Any, characters: str = "") -> None:
        written = _texts(tokenizer)
        self.texts = {token: text for token, text in written.items() if len(text) <= _LONGEST}
        if characters:
            self.texts = {token: text for token, text in self.texts.items() if set(text) <= set(characters)}
        self.single = {text: token for token, text in self.texts.items() if len(text) == 1}
        missing = [character for character in characters if character not in self.single]
        if missing:
            raise UserError(f"constrain: this tokenizer has no token for {missing[0]!r} alone; use another model")
        self.root = Node()
        for token, text in self.texts.items():
            self.root.add(text, token)
        self.root.seal()


def _texts(tokenizer: Any) -> dict[int, str]:
    # After a newline no tokenizer puts or takes a blank, as it may at the start of a text.
    anchor = tokenizer("\n", add_special_tokens=False)["input_ids"][-1]
    before = tokenizer.decode([anchor], clean_up_tokenization_spaces=False)
    specials = set(tokenizer.all_special_ids)
    ids = [token for token in range(len(tokenizer)) if token not in specials]
    pairs = tokenizer.batch_decode([[anchor, token] for token in ids], clean_up_tokenization_spaces=False)
    texts = {token: pair.removeprefix(before) for token, pair in zip(ids, pairs, strict=True)}
    return {token: text for token, text in texts.items() if text and text.isascii()}
