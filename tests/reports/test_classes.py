"""Accuracy per class and confusions, from the counts in results."""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest

from capsbench.launch.protocols import protocol
from capsbench.reports.classes import ClassTables, class_tables, confusion
from capsbench.reports.comparison import Comparison
from capsbench.reports.label_tables import label_table
from capsbench.runs import Result

AddRun = Callable[..., Path]


def tables(root: Path) -> ClassTables | None:
    (panel,) = Comparison.of(root, protocol).panels
    return class_tables(panel)


def test_counts_are_summed_over_seeds(add_run: AddRun, tmp_path: Path) -> None:
    for seed, right in ((1, 4), (2, 2)):
        add_run(tmp_path, "fm", seed, 0.9, confusion={"test": [[right, 4 - right], [0, 4]]}, class_names=["a", "b"])
    (panel,) = Comparison.of(tmp_path, protocol).panels
    counts = confusion(panel.conditions[0].runs)
    assert counts is not None
    assert counts.to_numpy().tolist() == [[6, 2], [0, 8]]
    found = tables(tmp_path)
    assert found is not None
    assert "<td>75.0</td>" in found.accuracy
    assert "<td>100.0</td>" in found.accuracy
    ((label, matrix),) = found.confusions.items()
    assert label == "FM (n = 2)"
    assert ">25.0</b>" in matrix


def test_a_validated_run_shows_its_validation_split(add_run: AddRun, tmp_path: Path) -> None:
    settings = {"seed": 1, "data": {"val_fraction": 0.1}}
    counts = {"val": [[3, 1], [0, 4]]}
    metrics = {"val/accuracy": 0.9}
    add_run(tmp_path, "fm", 1, 0.9, settings=settings, confusion=counts, class_names=["a", "b"], metrics=metrics)
    found = tables(tmp_path)
    assert found is not None
    assert "<td>75.0</td>" in found.accuracy


def test_a_class_without_images_has_no_accuracy(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path, "fm", 1, 0.9, confusion={"test": [[3, 1], [0, 0]]}, class_names=["a", "b"])
    found = tables(tmp_path)
    assert found is not None
    assert "<td>–</td>" in found.accuracy


def test_sets_with_other_classes_stand_side_by_side(add_run: AddRun, tmp_path: Path) -> None:
    """A folder of images may have got a class between two runs."""
    add_run(tmp_path, "fm", 1, 0.9, confusion={"test": [[3, 1], [0, 4]]}, class_names=["b", "c"])
    counts = {"test": [[1, 0, 1], [0, 1, 3], [0, 0, 5]]}
    add_run(tmp_path, "em", 1, 0.9, confusion=counts, class_names=["a", "b", "c"])
    found = tables(tmp_path)
    assert found is not None
    cells = re.findall("<t[hd]>(.*)</t[hd]>", found.accuracy)
    fm, em = ["FM (n = 1)", "75.0", "100.0", "–"], ["EM (3) (n = 1)", "25.0", "100.0", "50.0"]
    assert cells == ["Router", "b", "c", "a", *fm, *em]


def test_a_class_that_only_one_seed_has_is_counted(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path, "fm", 1, 0.9, confusion={"test": [[3, 1], [0, 4]]}, class_names=["b", "c"])
    counts = {"test": [[1, 0, 1], [0, 1, 3], [0, 0, 5]]}
    add_run(tmp_path, "fm", 2, 0.9, confusion=counts, class_names=["a", "b", "c"])
    (panel,) = Comparison.of(tmp_path, protocol).panels
    summed = confusion(panel.conditions[0].runs)
    assert summed is not None
    assert summed.loc[["a", "b", "c"], ["a", "b", "c"]].to_numpy().tolist() == [[1, 0, 1], [0, 4, 4], [0, 0, 9]]


def test_names_of_classes_are_text(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path, "fm", 1, 0.9, confusion={"test": [[3, 1], [0, 4]]}, class_names=["<script>", "b"])
    found = tables(tmp_path)
    assert found is not None
    assert "<script>" not in found.accuracy + "".join(found.confusions.values())


def test_of_many_classes_the_most_frequent_confusions_are_listed(add_run: AddRun, tmp_path: Path) -> None:
    counts = pd.DataFrame(0, range(50), range(50))
    counts.loc[7, [7, 9]] = [30, 10]
    counts.loc[9, 7] = 4
    names = [f"class {number}" for number in range(50)]
    add_run(tmp_path, "fm", 1, 0.9, confusion={"test": counts.to_numpy().tolist()}, class_names=names)
    found = tables(tmp_path)
    assert found is not None
    (listed,) = found.confusions.values()
    rows = listed.split("<tr>")[1:]
    assert len(rows) == 2
    assert "<td>class 7</td>" in rows[0]
    assert "<td>class 9</td>" in rows[0]
    assert "<td>25.0</td>" in rows[0]


def test_results_without_counts_have_no_tables(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path, "fm", 1, 0.9)
    assert tables(tmp_path) is None


ROW = {"true_positives": 3, "false_negatives": 1, "false_positives": 2, "true_negatives": 4, "average_precision": 0.75}
EMPTY = {"true_positives": 0, "false_negatives": 0, "false_positives": 0, "true_negatives": 10}


def add_labelled_run(add_run: AddRun, root: Path, seed: int, *rows: Mapping[str, float], **changes: object) -> None:
    metrics = {"test/exact_match": 0.5, "test/f1": 0.6, "test/map": 0.7, "train/exact_match": 0.6}
    history = [{"epoch": 1, "train/exact_match": 0.6, "test/exact_match": 0.5}]
    labels = {"by_label": {"test": list(rows)}, "class_names": ["<cat>", "dog"], "most_frequent_labels": 0.2}
    add_run(root, "fm", seed, 0.9, metrics=metrics, history=history, **labels | changes)


def test_labels_of_any_number_have_figures_of_their_own(add_run: AddRun, tmp_path: Path) -> None:
    add_labelled_run(add_run, tmp_path, 1, ROW, EMPTY)
    add_labelled_run(add_run, tmp_path, 2, ROW | {"true_positives": 4, "false_negatives": 0}, EMPTY)
    (panel,) = Comparison.of(tmp_path, protocol).panels
    found = class_tables(panel)
    assert found is not None
    assert found.by_label
    of_label = label_table(panel.conditions[0].runs)
    assert of_label is not None
    assert of_label.loc["<cat>"].to_dict() == pytest.approx(
        {"Images": 4, "F1 %": 100 * 14 / 19, "Precision %": 100 * 7 / 11, "Recall %": 87.5, "Average precision %": 75}
    )
    assert of_label.loc["dog"].isna().sum() == 4
    assert "<td>73.7</td>" in found.accuracy
    ((label, figures),) = found.confusions.items()
    assert label == "FM (n = 2)"
    assert "<td>87.5</td>" in figures
    assert "<cat>" not in found.accuracy + figures


def test_a_damaged_row_of_a_label_is_left_out(add_run: AddRun, tmp_path: Path) -> None:
    for rows in ([ROW], [ROW, {"true_positives": 1}], [ROW, ROW | {"false_negatives": 0.5}]):
        add_labelled_run(add_run, tmp_path / "x", 1, *rows)
        with pytest.raises(ValueError, match=r"by_label\.test must"):
            Result.load(next((tmp_path / "x").rglob("result.json")).parent)
        shutil.rmtree(tmp_path / "x")


def test_a_class_may_have_the_name_of_a_column(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path, "fm", 1, 0.9, confusion={"test": [[4, 0], [1, 3]]}, class_names=["Router", "switch"])
    found = tables(tmp_path)
    assert found is not None
    assert "<td>75.0</td>" in found.accuracy
