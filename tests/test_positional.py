"""Plain words of a command line get their keys."""

import pytest

from musician.cli.positional import name_words

RUNS = ("a", "b")


def test_plain_words_get_the_keys_that_are_free():
    assert name_words(["r/a", "seed=1", "r/b c"], RUNS, "compare") == ["a='r/a'", "seed=1", "b='r/b c'"]
    assert name_words(["b=x=1", "y"], RUNS, "compare") == ["b='x=1'", "a='y'"]
    assert name_words(["--cfg", "job", "x"], RUNS, "compare") == ["--cfg", "job", "a='x'"]
    assert name_words(["--help", "a='q'"], RUNS, "compare") == ["--help", "a='q'"]
    assert name_words(["outputs/sft/RUN", "7"], ("run", "step"), "replay") == ["run='outputs/sft/RUN'", "step='7'"]


def test_a_word_too_many_is_refused():
    with pytest.raises(SystemExit, match="replay: takes run and step, and '8' is one more"):
        name_words(["x", "7", "8"], ("run", "step"), "replay")
