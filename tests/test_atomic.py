"""A file or a directory is whole or absent."""

import os

import pytest

from musician.runtime import atomic as module
from musician.runtime.atomic import point, publish, write_directory


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def make(directory, text="whole"):
    write_directory(directory, lambda folder: (folder / "file").write_text(text))
    return directory


def test_a_crash_while_filling_leaves_no_final_name(tmp_path):
    def crash(folder):
        (folder / "file").write_text("half")
        raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        write_directory(tmp_path / "target", crash)
    assert names(tmp_path) == []
    make(tmp_path / "target")
    with pytest.raises(RuntimeError, match="crash"):
        write_directory(tmp_path / "target", crash)
    assert (tmp_path / "target" / "file").read_text() == "whole"


def test_a_later_attempt_does_not_inherit_leftovers(tmp_path):
    leftover = tmp_path / ".target.partial"
    leftover.mkdir()
    (leftover / "old").write_text("from a process that was killed")
    make(tmp_path / "target")
    assert names(tmp_path / "target") == ["file"]
    assert not leftover.exists()


def test_every_file_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    order = []
    flush = module._flush
    monkeypatch.setattr(
        module, "_flush", lambda path: (order.append((path.name, (tmp_path / "t").exists())), flush(path))
    )

    def fill(folder):
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_text("a")
        (folder / "b").write_text("b")

    write_directory(tmp_path / "t", fill)
    assert {("a", False), ("b", False)} <= set(order)
    assert order[-1] == (tmp_path.name, True), "the folder's entry is flushed after the rename"


def test_replacing_a_checkpoint_never_leaves_it_absent(tmp_path, monkeypatch):
    """B28: killed at any moment, here just before the rename."""
    target, partial = make(tmp_path / "target"), tmp_path / ".target.partial"
    partial.mkdir()
    (partial / "file").write_text("newer")
    absent = []
    rename = type(partial).rename

    def watched(self, to):
        absent.append(not target.exists() and not list(tmp_path.glob(".target.old*")))
        return rename(self, to)

    monkeypatch.setattr(type(partial), "rename", watched)
    publish(partial, target)
    assert (target / "file").read_text() == "newer"
    assert not any(absent)


def test_a_link_moves_in_one_step_and_survives_a_move_of_the_folder(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    one, two = make(folder / "step-1"), make(folder / "step-2")
    for target in (one, two, two):
        point(folder / "last", target)
        assert (folder / "last").resolve() == target
    assert os.readlink(folder / "last") == "step-2"
    folder.rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "last" / "file").read_text() == "whole"
