"""The file that says a run is finished."""

import json
import shutil
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from capsbench.launch.config import open_configuration
from capsbench.launch.sweep import plan
from capsbench.runs import Identity, Result, RunFolder, environment


def test_what_is_saved_is_what_is_loaded(result: Result, tmp_path: Path) -> None:
    result.save(tmp_path)
    assert Result.load(tmp_path) == result
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_save_that_fails_leaves_the_old_result(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result.save(tmp_path)
    monkeypatch.setattr("os.fsync", lambda _descriptor: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        replace(result, seed=2).save(tmp_path)
    assert Result.load(tmp_path) == result


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"experiment": "demo"}'])
def test_a_file_that_is_no_result(tmp_path: Path, content: str) -> None:
    RunFolder(tmp_path).result.write_text(content)
    with pytest.raises(ValueError, match=r"result\.json is not a result of this version .* delete it"):
        Result.load(tmp_path)


def test_a_checkout_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(environment, "version", version)
    assert environment.versions()["capsbench"] == "not installed"


SCHEMA_1 = Path(__file__).with_name("result_schema1.json")
"""A result of the first schema, as version 0.1.0 wrote it."""
SCHEMA_2 = Path(__file__).with_name("result_schema2.json")
"""Of the second, when identities had version 1."""


def test_a_result_of_an_older_schema_is_read(tmp_path: Path) -> None:
    shutil.copy(SCHEMA_1, tmp_path / "result.json")
    result = Result.load(tmp_path)
    assert (result.schema, result.identity_version) == (3, 1)
    assert (result.router, result.seed, result.metrics["test/accuracy"]) == ("fm", 1, 0.8981000185012817)
    assert result.settings["data"]["augmentation"]["crop_padding"] == 0
    assert "crop_padding" not in result.settings["data"]


def test_a_result_of_an_older_schema_has_the_settings_and_another_version_of_todays_run(tmp_path: Path) -> None:
    shutil.copy(SCHEMA_1, tmp_path / "result.json")
    asked = "experiment=fig4_v1 arch=capsnet_light data=fashion_mnist trainer.max_epochs=5 router=fm seed=1"
    with open_configuration() as loader:
        (run,) = plan(loader, asked.split())
    older = replace(run.identity, version=1)
    assert Result.load(tmp_path).identity == older.digest != run.identity.digest


def test_a_result_of_schema_2_is_read(tmp_path: Path) -> None:
    shutil.copy(SCHEMA_2, tmp_path / "result.json")
    result = Result.load(tmp_path)
    assert (result.schema, result.identity, result.identity_version) == (3, "5a5860aa", 1)
    assert (result.confusion, result.class_names, result.machine_load) == ({}, (), {})


@pytest.mark.parametrize("path", [SCHEMA_1, SCHEMA_2], ids=lambda path: path.stem)
def test_settings_that_came_later_are_told_and_change_no_digest(tmp_path: Path, path: Path) -> None:
    record = json.loads(path.read_text())
    del record["settings"]["router"]["implementation"]
    del record["settings"]["channels_last"]
    (tmp_path / "result.json").write_text(json.dumps(record))
    result = Result.load(tmp_path)
    assert result.settings["router"]["implementation"] == "auto"
    assert result.settings["channels_last"] is True
    named = {name: getattr(result, name) for name in ("experiment", "data", "arch", "router", "seed", "choices")}
    assert Identity(settings=result.settings, version=1, **named).digest == result.identity


def test_fields_that_came_later_have_defaults(result: Result, tmp_path: Path) -> None:
    result.save(tmp_path)
    path = RunFolder(tmp_path).result
    record = json.loads(path.read_text())
    for name in ("device", "stands_in_for", "full", "versions"):
        del record[name]
    path.write_text(json.dumps(record))
    assert Result.load(tmp_path).metrics == result.metrics
