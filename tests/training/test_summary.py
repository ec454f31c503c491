"""The summary of a run, as written and read."""

import dataclasses
import json

import pytest

from musician.runtime.errors import UserError
from musician.training.runs.summary import RunSummary, read_summary


def test_a_summary_of_another_version_is_read_and_half_a_one_refused(tmp_path):
    summary = RunSummary(3, "val/loss", {"val/loss": 1.5}, 1, 1, 1.0, 1, 1.0)
    summary.write(tmp_path)
    assert read_summary(tmp_path) == summary
    assert summary.value == 1.5
    file, content = tmp_path / "summary.json", dataclasses.asdict(summary)
    file.write_text(json.dumps({**content, "of_tomorrow": 1}))
    assert read_summary(tmp_path) == summary
    del content["pruned"]
    file.write_text(json.dumps(content))
    assert read_summary(tmp_path).pruned is None
    del content["step"]
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"summary.json.*'step'.*remove it"):
        read_summary(tmp_path)
    assert read_summary(tmp_path / "absent") is None
