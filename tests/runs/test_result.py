"""The file that says a run is finished."""

import json
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from capsbench.launch.config import open_configuration
from capsbench.launch.sweep import plan
from capsbench.runs import Result, RunFolder, environment


def test_what_is_saved_is_what_is_loaded(result: Result, folder: Path) -> None:
    result.save(folder)
    assert Result.load(folder) == result
    assert [path.name for path in folder.iterdir()] == ["result.json"]


def test_a_save_that_fails_leaves_the_old_result(result: Result, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result.save(folder)
    monkeypatch.setattr("os.fsync", lambda _descriptor: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        replace(result, seed=2).save(folder)
    assert Result.load(folder) == result


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"experiment": "demo"}'])
def test_a_file_that_is_no_result(folder: Path, content: str) -> None:
    RunFolder(folder).result.write_text(content)
    with pytest.raises(ValueError, match=r"result\.json is no valid result: .* delete it"):
        Result.load(folder)


def test_a_checkout_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(environment, "version", version)
    assert environment.versions()["capsbench"] == "not installed"


PUBLISHED = Path(__file__).parents[2] / "outputs" / "published"
SCHEMA_1 = Path(__file__).with_name("result_schema1.json")
"""A result of the first schema, as version 0.1.0 wrote it."""
SCHEMA_2 = Path(__file__).with_name("result_schema2.json")
"""Of the second, when identities had version 1."""


def placed(root: Path, record: dict[str, Any]) -> Path:
    """Put a record where its run belongs; one of the first schema had another digest."""
    folder = Path(root, *(record[axis] for axis in ("experiment", "data", "arch", "router")))
    folder /= f"seed{record['seed']}-{record['identity']}"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(record))
    return folder


def test_a_result_of_an_older_schema_is_read(tmp_path: Path) -> None:
    result = Result.load(placed(tmp_path, json.loads(SCHEMA_1.read_text())))
    assert (result.schema, result.identity_version) == (3, 1)
    assert (result.router, result.seed, result.metrics["test/accuracy"]) == ("fm", 1, 0.8981000185012817)
    assert result.settings["data"]["augmentation"]["crop_padding"] == 0
    assert "crop_padding" not in result.settings["data"]


def test_a_result_of_an_older_schema_has_the_settings_and_another_version_of_todays_run(tmp_path: Path) -> None:
    asked = "experiment=fig4_v1 arch=capsnet_light data=fashion_mnist trainer.max_epochs=5 router=fm seed=1"
    with open_configuration() as loader:
        (run,) = plan(loader, [*asked.split(), "trainer.accelerator=cpu"])
    older = replace(run.identity, version=1)
    result = Result.load(placed(tmp_path, json.loads(SCHEMA_1.read_text())))
    assert result.identity == older.digest != run.identity.digest


def test_a_result_of_schema_2_is_read(tmp_path: Path) -> None:
    result = Result.load(placed(tmp_path, json.loads(SCHEMA_2.read_text())))
    assert (result.schema, result.identity, result.identity_version) == (3, "5a5860aa", 1)
    assert (result.confusion, result.class_names, result.machine_load) == ({}, (), {})


@pytest.mark.parametrize("path", [SCHEMA_1, SCHEMA_2], ids=lambda path: path.stem)
def test_settings_that_came_later_are_told_and_change_no_digest(tmp_path: Path, path: Path) -> None:
    record = json.loads(path.read_text())
    del record["settings"]["router"]["implementation"]
    del record["settings"]["channels_last"]
    result = Result.load(placed(tmp_path, record))
    assert result.settings["router"]["implementation"] == "auto"
    assert result.settings["channels_last"] is True
    assert result.settings["devices"] == {"kind": "cpu", "number": 1}
    assert result.run.digest == result.identity


def test_fields_that_came_later_have_defaults(result: Result, folder: Path) -> None:
    result.save(folder)
    path = RunFolder(folder).result
    record = json.loads(path.read_text())
    for name in ("device", "stands_in_for", "full", "versions"):
        del record[name]
    path.write_text(json.dumps(record))
    assert Result.load(folder).metrics == result.metrics


@pytest.mark.parametrize(
    ("words", "devices"),
    [
        ("cpu, 4 threads, AMD EPYC", None),
        ("unknown", None),
        ("cpu, 4 threads, AMD EPYC × 2", {"kind": "cpu", "number": 2}),
        ("NVIDIA H100 80GB HBM3", {"kind": "gpu", "number": 1}),
        ("NVIDIA H100 80GB HBM3 × 8", {"kind": "gpu", "number": 8}),
        ("mps, 8 threads, Apple M2", {"kind": "mps", "number": 1}),
    ],
)
def test_the_devices_of_an_older_result_are_those_of_its_words(
    result: Result, folder: Path, words: str, devices: dict[str, Any] | None
) -> None:
    replace(result, device=words).save(folder)
    loaded = Result.load(folder)
    assert loaded.settings.get("devices") == devices
    assert loaded.identity == result.identity


@pytest.mark.parametrize("path", sorted(PUBLISHED.rglob("result.json")), ids=lambda path: path.parent.name)
def test_published_results_are_believed(path: Path) -> None:
    record = json.loads(path.read_text())
    loaded = Result.load(path.parent)
    kept = {key: value for key, value in record.items() if key not in ("settings", "identity", "schema", "load")}
    assert {key: getattr(loaded, key) for key in kept} == kept
