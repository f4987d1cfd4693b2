"""What a run's folder says is data: none of it is executed or resolved, and no file of it stops a command."""

import json
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from capsbench.launch.saved import read_config
from capsbench.launch.slurm_queue import states_of
from capsbench.runs import Identity, NamedRuns, Result, RunFolder, State

Command = Callable[..., Path]
CONFIG: dict[str, Any] = {
    "data": {"_target_": "capsbench.data.Digits", "seed": 1},
    "arch": {"_target_": "capsbench.models.CapsNet", "_partial_": True, "filters": 8},
    "router": {"_target_": "capsbench.routing.FMAgreement", "_partial_": True},
    "decoder": {"network": None, "loss_weight": 0.0},
    "loss": {"_target_": "capsbench.training.MarginLoss"},
    "optim": {"optimizer": {"_target_": "torch.optim.Adam", "lr": 1.0e-3}, "scheduler": None},
    "trainer": {"_target_": "lightning.Trainer", "max_epochs": 1},
    "seed": 1,
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A finished run, as far as its configuration and result go."""
    names = {"experiment": "adhoc", "data": "digits", "arch": "capsnet", "router": "fm"}
    identity = Identity(**names, seed=1, settings={"seed": 1}, choices={})
    folder = RunFolder(identity.folder(tmp_path / "outputs"))
    folder.path.mkdir(parents=True)
    told = {**names, "seed": 1, "settings": identity.settings, "choices": {}, "identity": identity.digest}
    Result(**told, metrics={"test/accuracy": 0.5}, identity_version=identity.version).save(folder.path)
    return folder


def configure(run: RunFolder, place: str, value: Any) -> None:
    """Write the configuration with one value changed; a number in the place is that of a list's only entry."""
    config = json.loads(json.dumps(CONFIG))
    for key in reversed(place.split(".")[1:]):
        value = [value] if key.isdigit() else {key: value}
    part = place.split(".")[0]
    config[part] = config.get(part, {}) | value if isinstance(value, dict) else value
    run.config.write_text(yaml.safe_dump(config, sort_keys=False))


def fails(capsbench: Command, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a command ends with."""
    with pytest.raises(SystemExit) as ended:
        capsbench(*words)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def executing(folder: Path) -> dict[str, dict[str, Any]]:
    """Targets that would make `folder`/made, or delete or change `folder`/kept."""
    made, kept, bomb, hub = (folder / name for name in ("made", "kept", "bomb", "hub"))
    kept.write_text("mine")
    bomb.write_bytes(pickle.dumps(Touch(made)))
    hub.mkdir()
    script = hub / "hubconf.py"
    script.write_text(f"open({str(made)!r}, 'w')\ndef model(): pass\n")
    path = {"_target_": "pathlib.Path", "_args_": [str(kept)]}
    return {
        "pandas.read_pickle": {"filepath_or_buffer": str(bomb)},
        "torch.load": {"f": str(bomb), "weights_only": False},
        "torch.hub.load": {"repo_or_dir": str(hub), "model": "model", "source": "local"},
        "numpy.load": {"file": str(bomb), "allow_pickle": True},
        "joblib.load": {"filename": str(bomb)},
        "pathlib.Path.unlink": {"_args_": [path]},
        "pathlib.Path.write_text": {"_args_": [path, "theirs"]},
        "pathlib.Path.touch": {"_args_": [{"_target_": "pathlib.Path", "_args_": [str(made)]}]},
        "shutil.copyfile": {"src": str(kept), "dst": str(made)},
        "shutil.rmtree": {"path": str(kept.parent)},
        "shutil.move": {"src": str(kept), "dst": str(made)},
        "os.system": {"command": f"touch {made}"},
        "os.remove": {"path": str(kept)},
        "os.makedirs": {"name": str(made)},
        "subprocess.run": {"args": ["touch", str(made)]},
        "builtins.exec": {"_args_": [f"open({str(made)!r}, 'w')"]},
        "builtins.eval": {"_args_": [f"open({str(made)!r}, 'w')"]},
        "runpy.run_path": {"path_name": str(script)},
        "urllib.request.urlretrieve": {"url": f"file://{kept}", "filename": str(made)},
    }


KINDS = [
    "pandas.read_pickle", "torch.load", "torch.hub.load", "numpy.load", "joblib.load", "pathlib.Path.unlink",
    "pathlib.Path.write_text", "pathlib.Path.touch", "shutil.copyfile", "shutil.rmtree", "shutil.move", "os.system",
    "os.remove", "os.makedirs", "subprocess.run", "builtins.exec", "builtins.eval", "runpy.run_path",
    "urllib.request.urlretrieve",
]  # fmt: skip


@pytest.mark.parametrize("target", KINDS)
def test_no_target_of_a_folder_is_run(
    run: RunFolder, capsbench: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path, target: str
) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    configure(run, "router", {"_target_": target, **executing(folder)[target]})
    line = fails(capsbench, capsys, "analyze", "reconstructions", f"run={run}")
    assert line.startswith(f"error: {run.config} sets router._target_ to {target}, which no choice of router")
    assert "give the --config-dir" in line
    assert not (folder / "made").exists()
    assert (folder / "kept").read_text() == "mine"


def test_every_kind_is_tried(tmp_path: Path) -> None:
    assert list(executing(tmp_path)) == KINDS


@pytest.mark.parametrize(
    "place",
    ["data", "data.augmentation", "decoder.network", "optim.scheduler", "trainer.callbacks.0", "more.deep.0.deep"],
)
def test_nor_is_one_at_any_depth(run: RunFolder, place: str) -> None:
    configure(run, place, {"_target_": "os.getcwd"})
    with pytest.raises(ValueError, match=rf"config\.yaml sets {place}._target_ to os\.getcwd, which no choice of"):
        read_config(run)


def test_a_choice_of_one_part_is_none_of_another(run: RunFolder) -> None:
    configure(run, "router", {"_target_": "lightning.pytorch.loggers.WandbLogger", "mode": "online"})
    with pytest.raises(ValueError, match=r"sets router\._target_ to lightning\.pytorch\.loggers\.WandbLogger"):
        read_config(run)


def test_what_the_own_choices_name_is_read(run: RunFolder, tmp_path: Path) -> None:
    configure(run, "router", {"_target_": "mine.MeanRouting", "gain": 5.0})
    with pytest.raises(ValueError, match=r"sets router\._target_ to mine\.MeanRouting, which no choice"):
        read_config(run)
    own = tmp_path / "my_conf"
    (own / "router").mkdir(parents=True)
    (own / "router" / "mean.yaml").write_text("_target_: mine.MeanRouting\ngain: 1.0\n")
    assert read_config(run, str(own)).router.gain == 5.0
    with pytest.raises(ValueError, match="--config-dir must be a directory"):
        read_config(run, str(tmp_path / "nowhere"))


MEAN = """
from capsbench.routing import Capsules, Router, squash, squashed_norm

class MeanRouting(Router):
    def route(self, votes, activations=None):
        s = votes.mean(dim=1)
        return Capsules(squash(s), activations=squashed_norm(s))
"""


def test_a_router_of_ones_own_is_evaluated_with_its_choices(
    capsbench: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "routers_of_mine.py").write_text(MEAN)
    (tmp_path / "my_conf" / "router").mkdir(parents=True)
    choice = tmp_path / "my_conf" / "router" / "mean.yaml"
    choice.write_text("_target_: routers_of_mine.MeanRouting\n_partial_: true\n")
    own = ("--config-dir", str(tmp_path / "my_conf"))
    outputs = capsbench("train", *own, "router=mean", "trainer=smoke", "data.subset=64")
    (result,) = outputs.rglob("result.json")
    capsbench("evaluate", f"run={result.parent}", *own)
    assert (result.parent / "evaluation-test.json").is_file()
    capsys.readouterr()
    assert "routers_of_mine.MeanRouting" in fails(capsbench, capsys, "evaluate", f"run={result.parent}")


@pytest.mark.parametrize("place", ["data.path", "seed", "router.gain"])
def test_nothing_is_resolved(run: RunFolder, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("SECRET", "sesame")
    configure(run, place, "${oc.env:SECRET}")
    with pytest.raises(ValueError, match=r"in a saved configuration nothing is resolved") as refused:
        read_config(run)
    assert "sesame" not in str(refused.value)


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
HOSTILE = {
    "aliases": LAUGHS + yaml.safe_dump(CONFIG),
    "a tag": yaml.safe_dump(CONFIG) + "more: !!python/object/apply:os.system [exit]\n",
    "an object": yaml.safe_dump(CONFIG) + "more: !!python/object/apply:pathlib.PosixPath [a]\n",
    "bytes": yaml.safe_dump(CONFIG) + "more: !!binary aGFsbG8=\n",
    "10 MB": yaml.safe_dump(CONFIG) + f"more: {'x' * 10_000_000}\n",
    "depth": "[" * 60_000,
    "a long number": yaml.safe_dump(CONFIG) + f"more: {'1' * 60_000}\n",
    "a number to the base of 60": yaml.safe_dump(CONFIG) + f"more: 1{':1' * 30_000}\n",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_configuration_that_would_fill_memory_or_time(run: RunFolder, kind: str) -> None:
    run.config.write_text(HOSTILE[kind])
    began = time.process_time()
    with pytest.raises(ValueError, match=r"config\.yaml") as refused:
        read_config(run)
    assert time.process_time() - began < 1
    assert "\n" not in str(refused.value)


def test_a_configuration_with_an_odd_value_spoils_only_its_run(run: RunFolder) -> None:
    configure(run, "more", {"_target_": ["os.system"]})
    with pytest.raises(ValueError, match=r"more\._target_\.0 to os\.system"):
        read_config(run)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def huge(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(10 * 2**30)


def nested(path: Path) -> None:
    path.write_text("[" * 200_000)


@pytest.mark.parametrize("make", [pipe, huge, nested])
def test_files_of_an_unfinished_run_do_not_stop_its_status(run: RunFolder, make: Callable[[Path], None]) -> None:
    run.result.unlink()
    configure(run, "seed", 1)
    make(run.progress)
    make(run.session)
    make(run.job)
    began = time.process_time()
    assert states_of([run])[0].name == "interrupted"
    make(run.failure)
    assert State.of(run).name == "failed"
    assert time.process_time() - began < 1


@pytest.mark.parametrize("make", [pipe, huge, nested])
def test_a_list_of_runs_that_cannot_be_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    named = NamedRuns(tmp_path, "monday")
    named.path.parent.mkdir()
    make(named.path)
    with pytest.raises(ValueError, match=r"monday\.json cannot be read"):
        _ = named.folders


@pytest.mark.parametrize("folder", ["/etc", "../elsewhere", "a/../../elsewhere"])
def test_a_list_names_runs_of_its_own_folder_only(tmp_path: Path, folder: str) -> None:
    named = NamedRuns(tmp_path, "monday")
    named.path.parent.mkdir()
    named.path.write_text(json.dumps([folder]))
    with pytest.raises(ValueError, match=r"monday\.json is no list of folders"):
        _ = named.folders
