import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from musician.data.sources.corpus import COLLECTIONS, default_collections, iter_tunes
from musician.runtime.errors import UserError


def test_the_default_collections_hold_4433_tunes() -> None:
    tunes = list(iter_tunes())
    assert len(tunes) == 4433
    assert tunes[0].collection == "airdsAirs"
    assert tunes == list(iter_tunes(default_collections()))
    assert len({(tune.file, tune.index) for tune in tunes}) == len(tunes)


def test_collections_with_a_restricting_licence_are_opt_in() -> None:
    assert set(default_collections()) == {"airdsAirs", "miscFolk", "oneills1850", "ryansMammoth"}
    assert sum(1 for _ in iter_tunes(["josquin"])) == 29
    assert all(collection.licence for collection in COLLECTIONS.values())


def test_a_directory_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.abc").write_bytes(b"X:1\r\nK:C\r\nCD|\r\n\r\nX:2\r\nK:C\r\nEF|\r\n")
    (tmp_path / "one.abc").write_text("X:1\nK:C\nA|\n")
    assert [(tune.file, tune.index) for tune in iter_tunes(root=tmp_path)] == [
        ("b/two.abc", 0),
        ("b/two.abc", 1),
        ("one.abc", 0),
    ]
    assert [tune.collection for tune in iter_tunes(["b"], root=tmp_path)] == ["b", "b"]


def test_abc_in_latin_1_is_read_and_counted(tmp_path: Path) -> None:
    (tmp_path / "old.abc").write_bytes("X:1\nT:Café\nK:C\nA|\n".encode("latin-1"))
    (tmp_path / "new.abc").write_bytes("\ufeffX:1\nT:Café\nK:C\nB|\n".encode())
    counts: Counter[str] = Counter()
    titles = [tune.text.split("\n")[1] for tune in iter_tunes(root=tmp_path, counts=counts)]
    assert titles == ["T:Café", "T:Café"]
    assert counts == {"ABC files that are not UTF-8, read as Latin-1": 1}


def test_errors_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="did you mean 'oneills1850'"):
        list(iter_tunes(["oneills1580"]))
    with pytest.raises(UserError, match="no tune found"):
        list(iter_tunes(root=tmp_path))
    with pytest.raises(UserError, match="no such directory"):
        list(iter_tunes(root=tmp_path / "none"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'musician\[demo\]'"):
        list(iter_tunes())


def test_music21_is_never_imported() -> None:
    code = "import sys; from musician.data.sources.corpus import iter_tunes as i; next(i()); assert 'music21' not in sys.modules"  # noqa: E501
    subprocess.run([sys.executable, "-c", code], check=True)
