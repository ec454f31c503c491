"""How a job tells its user that it did not end well: the one exception written for the user, and exit statuses."""

import difflib
from collections.abc import Iterable

#: `EX_TEMPFAIL` of sysexits.h: stopped because the machine is wanted back, saved, to be run again. Not 143, which is a
#: process that saved nothing.
REQUEUE = 75


class UserError(Exception):
    """Something the user can put right.

    The message is one line: what is wrong, where, and what to do. The commands print it without a traceback and exit
    with status 1; in a REPL it is an ordinary exception.
    """


def nearest(word: str, choices: Iterable[object]) -> str:
    """Return `` (did you mean 'x'?)`` for the choice most like `word`, or an empty string when none is."""
    close = difflib.get_close_matches(word, [str(choice) for choice in choices], n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
