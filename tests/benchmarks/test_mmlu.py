import csv

import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest

from musician.benchmarks.hub import hub_folder
from musician.benchmarks.multiple_choice import mmlu
from musician.benchmarks.multiple_choice.mmlu import CATEGORIES, MMLU, SUBJECTS
from musician.benchmarks.multiple_choice.music_theory_bench import MusicTheoryBench
from musician.runtime.errors import UserError


def write(folder, subject, tests=3, shots=5):
    for split, number in (("dev", shots), ("test", tests)):
        path = folder / split / f"{subject}_{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(
                [f'{split} {i}, "q"', "one", "NA", "", "four", "ABCD"[i % 4]] for i in range(number)
            )


def test_rows_are_read_as_they_are(tmp_path):
    write(tmp_path, "anatomy")
    benchmark = MMLU(tmp_path, subjects=["anatomy"])
    question = benchmark.questions()[1]
    assert (question.stem, question.options, question.answer) == ('test 1, "q"', ("one", "NA", "", "four"), 1)
    assert (benchmark.name, MMLU(tmp_path, subjects=["anatomy"], num_fewshot=0).name) == ("mmlu", "mmlu_0shot")
    assert len(MMLU(tmp_path, subjects=["anatomy"], limit=2).questions()) == 2


def test_a_line_break_inside_a_cell_is_read_as_the_original_reads_it(tmp_path):
    write(tmp_path, "anatomy")
    (tmp_path / "test" / "anatomy_test.csv").write_bytes(b'"one\r\ntwo",1,2,3,4,D\r\n')
    assert MMLU(tmp_path, subjects=["anatomy"]).questions()[0].stem == "one\ntwo"


def test_prompt_is_the_protocol_s(tmp_path):
    write(tmp_path, "anatomy", shots=2)
    benchmark = MMLU(tmp_path, subjects=["anatomy"], num_fewshot=2)
    assert benchmark.prompt(benchmark.questions()[0], 1) == (
        "The following are multiple choice questions (with answers) about  anatomy.\n\n"
        'dev 0, "q"\nA. one\nB. NA\nC. \nD. four\nAnswer: A\n\n'
        'test 0, "q"\nA. one\nB. NA\nC. \nD. four\nAnswer:'
    )


@pytest.mark.parametrize("shots", range(6))
def test_any_number_of_shots_up_to_five(tmp_path, shots):
    write(tmp_path, "anatomy")
    benchmark = MMLU(tmp_path, subjects=["anatomy"], num_fewshot=shots)
    prompt = benchmark.prompt(benchmark.questions()[0])
    assert [line for line in prompt.splitlines() if line.startswith("dev")] == [f'dev {i}, "q"' for i in range(shots)]
    assert benchmark.name == ("mmlu" if shots == 5 else f"mmlu_{shots}shot")


def test_lm_eval_style_is_part_of_text_and_name(tmp_path):
    write(tmp_path, "anatomy")
    (tmp_path / "test" / "anatomy_test.csv").write_text('" padded ",1,2, 3,4,D\n')
    benchmark = MMLU(tmp_path, subjects=["anatomy"], num_fewshot=1, style="lm_eval", chat=True)
    assert (benchmark.name, benchmark.style, benchmark.chat) == ("mmlu_1shot_lm_eval_chat", "lm_eval", True)
    assert MMLU(tmp_path, subjects=["anatomy"], style="lm_eval").name == "mmlu_lm_eval"
    assert benchmark.prompt(benchmark.questions()[0]) == (
        "The following are multiple choice questions (with answers) about anatomy.\n\n"
        'dev 0, "q"\nA. one\nB. NA\nC. \nD. four\nAnswer: A\n\n'
        "padded\nA. 1\nB. 2\nC.  3\nD. 4\nAnswer:"
    )


def test_subsets_are_those_of_the_subjects(tmp_path):
    for subject in ("anatomy", "virology", "astronomy"):
        write(tmp_path, subject)
    benchmark = MMLU(tmp_path, subjects=["virology", "anatomy", "astronomy"])
    assert [s.name for s in benchmark.subsets] == [
        "macro",
        "micro",
        "other",
        "stem",
        "anatomy",
        "astronomy",
        "virology",
    ]
    assert [s.average for s in benchmark.subsets[:4]] == ["macro", "micro", "macro", "macro"]


def test_what_is_wrong_is_named(tmp_path):
    with pytest.raises(UserError, match=r"57 of 57 files are missing, the first is .*abstract_algebra_test.csv"):
        MMLU(tmp_path)
    with pytest.raises(UserError, match=r"did you mean 'anatomy'"):
        MMLU(tmp_path, subjects=["anatmy"])
    write(tmp_path, "anatomy", shots=2)
    with pytest.raises(UserError, match="num_fewshot=5, but 'anatomy' has 2 examples"):
        MMLU(tmp_path, subjects=["anatomy"])
    with pytest.raises(UserError, match="num_fewshot=-1; it must be 0 or more"):
        MMLU(tmp_path, subjects=["anatomy"], num_fewshot=-1)
    with pytest.raises(UserError, match="unknown prompt style 'helm'"):
        MMLU(tmp_path, subjects=["anatomy"], style="helm")
    (tmp_path / "test" / "anatomy_test.csv").write_text("question,A,B,C,D,target\n")
    with pytest.raises(UserError, match=r"anatomy_test.csv: row 1 is not"):
        MMLU(tmp_path, subjects=["anatomy"], num_fewshot=0)


def test_hub_rows_equal_the_official_ones(tmp_path, monkeypatch):
    write(tmp_path, "anatomy")
    official = MMLU(tmp_path, subjects=["anatomy"])
    (tmp_path / "all").mkdir()
    for split in ("dev", "test"):
        questions = mmlu.read_csv_folder(str(tmp_path), split, ["anatomy"])
        rows = [
            {"question": q.stem, "subject": q.subject, "choices": list(q.options), "answer": q.answer}
            for q in questions
        ]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "all" / f"{split}-0-of-1.parquet")
    monkeypatch.setattr(mmlu, "hub_folder", lambda *_: tmp_path)
    copy = MMLU(subjects=["anatomy"])
    assert copy.questions() == official.questions()
    assert copy.prompt(copy.questions()[0]) == official.prompt(official.questions()[0])
    with pytest.raises(UserError, match="no test rows of 1 subjects, the first is 'virology'"):
        MMLU(subjects=["virology"])


@pytest.mark.parametrize("benchmark", [MMLU, MusicTheoryBench])
def test_without_network_the_error_says_what_to_do(benchmark, monkeypatch):
    def missing(*_, **options):
        raise FileNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", missing)
    with pytest.raises(UserError, match=r"neither in the local cache nor on the hub .* hf download no-one/nothing"):
        benchmark(hub_id="no-one/nothing")


def test_what_is_in_the_cache_asks_no_hub(tmp_path, monkeypatch):
    calls = []

    def download(hub_id, local_files_only, **_):
        calls.append(local_files_only)
        return tmp_path

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    (tmp_path / "a-1").touch()
    assert hub_folder("some/data", ["a-*"]) == tmp_path
    assert calls == [True]
    with pytest.raises(UserError, match="it has no such files"):
        hub_folder("some/data", ["a-*", "b-*"])
    assert calls == [True, True, False]


def test_real_data_has_the_published_sizes_and_text(data_folder):
    benchmark = MMLU(data_folder / "mmlu")
    sizes = {name: 0 for name in CATEGORIES}
    for question in benchmark.questions():
        sizes[next(name for name, subjects in CATEGORIES.items() if question.subject in subjects)] += 1
    assert (len(SUBJECTS), sum(sizes.values())) == (57, 14042)
    assert sizes == {"humanities": 4705, "stem": 3153, "social_sciences": 3077, "other": 3107}
    for question in benchmark.questions()[::97]:
        assert benchmark.prompt(question) == reference_prompt(data_folder / "mmlu", question.subject, question.index)


def reference_prompt(folder, subject, index):
    """The formula of the protocol, written a second time."""
    dev, test = (list(csv.reader((folder / s / f"{subject}_{s}.csv").open(encoding="utf-8"))) for s in ("dev", "test"))
    item = "{0}\nA. {1}\nB. {2}\nC. {3}\nD. {4}\nAnswer: ".format
    examples = "\n".join(item(*cells[:5]) + cells[5] + "\n" for cells in dev[:5]) + "\n"
    header = "The following are multiple choice questions (with answers) about  " + subject.replace("_", " ") + ".\n\n"
    return (header + examples + item(*test[index][:5])).removesuffix(" ")


def test_real_anatomy_prompt_starts_and_ends_as_published(data_folder):
    benchmark = MMLU(data_folder / "mmlu", subjects=["anatomy"])
    prompt = benchmark.prompt(benchmark.questions()[0])
    assert prompt.startswith(
        "The following are multiple choice questions (with answers) about  anatomy.\n\n"
        "What is the embryological origin of the hyoid bone?\nA. The first pharyngeal arch\n"
        "B. The first and second pharyngeal arches\nC. The second pharyngeal arch\n"
        "D. The second and third pharyngeal arches\nAnswer: D\n\n"
    )
    assert "stylomastoid foramen will cause ipsilateral\nA. paralysis of the facial muscles.\nB. " in prompt
    assert prompt.endswith("\nAnswer:")


def test_real_prompts_of_the_two_styles_differ_in_the_space_and_outer_blanks_alone(data_folder):
    """Of the 14,042 questions 12,511 differ by the double space alone (reference/evaluation.md 4.1)."""
    ours, harness = (MMLU(data_folder / "mmlu", style=style) for style in ("opencompass", "lm_eval"))
    same = 0
    for question in ours.questions():
        same += ours.prompt(question).replace("about  ", "about ", 1) == harness.prompt(question)
    assert same == 12511
