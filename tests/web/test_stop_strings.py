"""Texts that end an answer, however the pieces fall."""

from hypothesis import example, given
from hypothesis import strategies as st

from musician.web.jobs.stop_strings import StopStrings

SHORT = st.text("ab|", min_size=1, max_size=3)


@example(["ab", "|"], ["ab|", "b"])
@example(["ab|"], ["ab|", "b"])
@given(st.lists(st.text("ab|", max_size=4), max_size=8), st.lists(SHORT, max_size=3))
def test_what_is_passed_on_is_the_text_before_the_stop_that_is_whole_first(pieces, stops):
    whole = "".join(pieces)
    first = next((end for end in range(len(whole)) if any(stop in whole[: end + 1] for stop in stops)), len(whole))
    expected = whole[: min((at for stop in stops if (at := whole[: first + 1].find(stop)) >= 0), default=len(whole))]
    passing = StopStrings(tuple(stops))
    shown = "".join(passing.add(piece) for piece in pieces)
    assert expected.startswith(shown)
    assert shown + passing.rest() == expected
    assert passing.found == (expected != whole)


def test_nothing_is_held_back_that_cannot_begin_a_stop():
    passing = StopStrings(("\n\n",))
    assert [passing.add(piece) for piece in ("a", "b\n", "c")] == ["a", "b", "\nc"]
