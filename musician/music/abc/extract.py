"""Tunes in running text: what in a chat answer, a document or a web page is ABC, and what is prose."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from musician.music.abc.lexer import TOKEN, code_end, lines
from musician.music.abc.reader import parse_tune

_ONE_LINE = re.compile(r"X:[ \t]*[0-9]+[ \t]+(?=[A-Z]:)", re.ASCII)
_NEXT_FIELD = re.compile(r"[ \t]+(?=[A-Za-z]:(?![|:]))", re.ASCII)
_KEY_VALUE = re.compile(
    r"K:[ \t]*(?:none|HP|Hp|[A-G][#b]?(?:[ \t]*(?:maj|min|m|ion|dor|phr|lyd|mix|aeo|loc)[a-z]*)?(?![A-Za-z0-9]))",
    re.ASCII | re.IGNORECASE,
)
_FIELD_LINE = re.compile(r"[A-Za-z+]:(?![|:])", re.ASCII)
_STARTS = re.compile(r"(?:^|(?<=[\s`>\"']))X:[ \t]*[0-9]", re.ASCII | re.MULTILINE)
_FRAGMENT = re.compile(r"^(?:[LMK]:[ \t]*[A-G0-9nCH]|.*\|)", re.ASCII | re.MULTILINE)
_STOPS = re.compile(r"</?s>|<\|[a-z_]+\|>|^[ \t]*```", re.MULTILINE)
_WORD = re.compile(r"[A-Za-z]{2,}")
_BARE = re.compile(r"[A-Za-z\s.,:;'()!?\"-]*", re.ASCII)
_PLAIN = frozenset("ABCDEFGabcdefgzx ,'()")
"""What a line of bare letters holds that is music because a `K:` field stands above it."""
_TUNE_FIELD = re.compile(r"\s*[XMLK]:\s*\S")
_AFTER_TUNE = re.compile(r"\s*(?:[A-D][.)]\s|Answer:|Human:|Assistant:)")
_ONE_LINE_HEADER = re.compile(r"(?:[XMLQ]:\S{1,40} {1,4}){1,8}K:\S{1,40}(?: |$)", re.MULTILINE)
_MOST_UNREAD = 0.1
_MOST_QUOTED = 12
"""Characters in quotes that there may be for every note of a line."""


class Extract(NamedTuple):
    """A tune found in `text[start:end]` of a text; `abc` is the tune with each field on a line of its own."""

    start: int
    end: int
    abc: str


def extract_tunes(text: str) -> list[Extract]:
    """Return the tunes written in a text, in order.

    A tune begins with `X:` and a number, at the start of a line or after white space, and ends before the first line
    that is no ABC, an empty line below music, a code fence or an end-of-text mark. Its fields may stand on one line
    (`X:1 L:1/8 M:2/4 K:G G2BG|`, as in the original's README) and `X:1` may be written twice in a row. What has no
    note is no tune.
    """
    found: list[Extract] = []
    starts = [each.start() for each in _STARTS.finditer(text)]
    for place, start in enumerate(starts):
        end = starts[place + 1] if place + 1 < len(starts) else len(text)
        stop = _STOPS.search(text, start, end)
        extract = _extract(text, start, stop.start() if stop else end)
        if extract:
            found.append(extract)
    return found


def extract_music(text: str) -> list[str]:
    """Return the tunes of a text as ABC; without any, the text's runs of music lines below fields or with bar lines.

    Prose has none, so it gives an empty list.
    """
    return [each.abc for each in extract_tunes(text)] or list(_fragments(text))


def split_music(text: str) -> tuple[str, list[str]]:
    """Part a text into its prose and its tunes.

    A tune goes from a line with an `X:`, `M:`, `L:` or `K:` field to a blank line, the next `X:`, an option (`A. ...`)
    or the end of a turn. A header written on one line, as the README of ChatMusician prints its tunes, counts as one.
    """
    if ":" not in text:
        return text, []
    prose: list[str] = []
    tunes: list[list[str]] = []
    inside = False
    for line in _ONE_LINE_HEADER.sub(lambda found: "\n" + "\n".join(found[0].split()) + "\n", text).splitlines():
        if _TUNE_FIELD.match(line) and (not inside or line.lstrip().startswith("X:")):
            tunes.append([])
            inside = True
        inside = inside and bool(line.strip()) and not _AFTER_TUNE.match(line)
        (tunes[-1] if inside else prose).append(line)
    return "\n".join(prose), ["\n".join(tune) for tune in tunes]


def count_notes(text: str) -> int:
    """Count the note heads that sound in a text's tunes, or else in its fragments of music; prose has none.

    Every note of a chord counts, and both ends of a tie; grace notes and rests do not.
    """
    return sum(note.midi is not None for music in extract_music(text) for note in parse_tune(music).notes)


def is_music(line: str) -> bool:
    """Whether a line is music as ABC writes it, not prose.

    Nearly all its signs are ABC's, and a line of bare letters, which could be words (`a bad cabbage`), is music only
    with a bar line, a number or an accidental in it.
    """
    code = line[: code_end(line, 0, len(line))]
    if not code.strip() or _BARE.fullmatch(code):
        return False
    signs = unread = letters = notes = quoted = 0
    for found in TOKEN.finditer(code):
        kind = found.lastgroup
        size = found.end() - found.start()
        signs += size if kind != "idle" else 0
        unread += size if kind == "unread" else 0
        notes += kind in ("note", "chord", "rest")
        quoted += size if kind == "quoted" else 0
        letters += kind == "decoration" and size == 1 and found[0].isalpha()
    drawn = "|" in code or code.rstrip().endswith("\\")
    strange = unread + max(0, letters - notes // 2 if drawn else letters)
    allowed = max(_MOST_UNREAD * signs, 1 if signs > 8 or drawn else 0)
    if strange > allowed or quoted > _MOST_QUOTED * notes:
        return False
    return notes > 0 and not _wordy(code)


def _wordy(code: str) -> bool:
    """Whether words with letters that are no notes stand in the line outside quotes, decorations and brackets."""
    plain = re.sub(r'"[^"]*"|![^!\s]*!|\+[^+\s]*\+|\[[A-Za-z]:[^\]]*\]', " ", code)
    words = _WORD.findall(plain)
    strange = sum(len(word) > 2 and len(set(word.lower()) - set("abcdefgzxyuvt")) > 1 for word in words)
    return strange > 0.2 * len(words) if words else False


def _extract(text: str, start: int, end: int) -> Extract | None:
    kept: list[str] = []
    music = False
    last = start
    for first, until in lines(text, start, end):
        line = text[first:until].strip().removeprefix("> ")
        if not line:
            if music:
                break
            continue
        unfolded = _unfold(line)
        if not unfolded and not line.startswith("%"):
            break
        kept += unfolded or [line]
        music = music or is_music(kept[-1])
        last = until
    abc = "\n".join(kept)
    sounds = any(note.midi is not None for note in parse_tune(abc).notes)
    return Extract(start, last, abc) if sounds and kept else None


def _unfold(line: str) -> list[str]:
    """Return a line of ABC, or several fields and music on one line each on its own; nothing for prose."""
    if _ONE_LINE.match(line):
        found = _NEXT_FIELD.split(line)
        key = _KEY_VALUE.match(found[-1])
        rest = found[-1][key.end() :].strip() if key else ""
        return [*found[:-1], found[-1][: key.end()], _music_only(rest)] if key and rest else found
    return [line] if _FIELD_LINE.match(line) or is_music(line) else []


def _music_only(line: str) -> str:
    """Return a line without the words after its last bar line."""
    music, bar, rest = line.rpartition("|")
    closed = music + bar + ("]" if rest.startswith("]") else "")
    return line if is_music(rest) or not rest.strip("] ") else closed


def _fragments(text: str) -> Iterator[str]:
    """Yield runs of fields and music lines; a run counts with music in it, and a field of music or a bar line."""
    run: list[str] = []
    sounds = keyed = False
    for start, end in [*lines(text, 0, len(text)), (len(text), len(text))]:
        line = text[start:end]
        music = is_music(line) or (keyed and bool(line.strip()) and not set(line) - _PLAIN)
        if music or _FIELD_LINE.match(line) or line.startswith("%"):
            run.append(line)
            sounds, keyed = sounds or music, keyed or line.startswith("K:")
            continue
        if sounds and _FRAGMENT.search("\n".join(run)):
            yield "\n".join(run)
        run, sounds, keyed = [], False, False
