"""The wheel carries conf/, and works where there is no checkout."""

import configparser
import zipfile

import pytest
from commands import COMMANDS, CONF, ROOT, assert_ran, assert_refused, spawn, spawn_python

pytest.importorskip("hatchling")
pytest.importorskip("build")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    built = spawn_python("-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert_ran(built)
    [path] = folder.glob("musician-*.whl")
    return path


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_the_wheel_holds_every_config_as_a_regular_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {info.filename: info for info in archive.infolist()}
        on_disk = {f"musician/conf/{file.relative_to(CONF)}": file for file in files(CONF)}
        assert {
            "musician/conf/train.yaml",
            "musician/conf/experiment/sft.yaml",
            "musician/conf/sweep/lora_rank.yaml",
        } <= set(on_disk)
        for name, file in on_disk.items():
            assert archive.read(name) == file.read_bytes()
            assert (inside[name].external_attr >> 28) in (0, 0o10), f"{name} is no regular file"


def files(folder):
    """Every YAML below a folder, through the links in it."""
    return [file for place in (folder, *folder.iterdir()) if place.is_dir() for file in place.glob("*.yaml")]


def test_the_wheel_holds_every_module_and_no_test(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    modules = {str(file.relative_to(ROOT)) for file in (ROOT / "musician").rglob("*.py")}
    assert len(modules) > 50
    assert modules == {name for name in names if name.endswith(".py")}
    assert not [name for name in names if name.startswith(("tests/", "conf/"))]
    assert [name for name in names if name.endswith("licenses/LICENSE")]
    static = ROOT / "musician" / "web" / "static"
    assert {str(file.relative_to(ROOT)) for file in static.rglob("*") if file.is_file()} <= set(names)


def test_the_wheel_works_without_the_checkout(unpacked, tmp_path):
    env = {"PYTHONPATH": str(unpacked)}
    where = spawn_python("-c", "import musician.cli.keys as m; print(m.__file__, m.CONF_DIR)", cwd=tmp_path, env=env)
    assert where.stdout.split() == [f"{unpacked}/musician/cli/keys.py", f"{unpacked}/musician/conf"]
    shown = spawn("train", "+experiment=sft", "hardware=8xv100", "--cfg", "job", cwd=tmp_path, env=env, fresh=True)
    assert_ran(shown)
    assert "name: sft" in shown.stdout
    assert "devices: 8" in shown.stdout
    typo = spawn("train", "+experiment=sft", "optimizer.lrr=1", cwd=tmp_path, env=env, fresh=True)
    assert_refused(typo, "optimizer.lrr", "did you mean 'lr'")
    help_text = spawn("train", "--help", cwd=tmp_path, env=env, fresh=True)
    assert "lora_rank" in help_text.stdout


def test_the_console_command_runs_each_command(unpacked, tmp_path):
    scripts = configparser.ConfigParser()
    scripts.read(next(unpacked.glob("*.dist-info/entry_points.txt")))
    module, _, function = scripts["console_scripts"]["musician"].partition(":")
    program = f"import sys; from {module} import {function} as main; sys.exit(main())"

    def musician(*words):
        return spawn_python("-c", program, *words, cwd=tmp_path, env={"PYTHONPATH": str(unpacked)})

    listed = [line.split()[0] for line in musician("--help").stdout.splitlines()[2:]]
    assert listed == sorted(COMMANDS)
    shown = musician("train", "+experiment=smoke", "--cfg", "job")
    assert_ran(shown)
    assert "name: smoke" in shown.stdout
    assert_refused(musician("trian"), "'trian'", "did you mean 'train'")
