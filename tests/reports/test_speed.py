"""Tables and pictures of benchmarks; table 1 beside the paper's."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from capsbench.benchmarks.measure import Measurement
from capsbench.reports.speed import (
    benchmark_markdown,
    contention_table,
    hours_table,
    layer_table,
    layer_tables_of_a_page,
    table1,
    train_table,
    write_benchmark,
)
from capsbench.reports.speed_pictures import draw_layer, draw_roofline, draw_scaling

PUBLISHED = Path(__file__).parents[2] / "outputs" / "published" / "benchmarks"


def measured(median: float, subject: str, quantity: str, unit: str, **details: Any) -> dict[str, Any]:
    return asdict(Measurement.of([median - 1, median, median + 1], subject, quantity, unit, **details))


CIFAR = {"subject": "capsnet_light, CIFAR-10", "quantity": "forward", "device": "CPU"}
TABLE1 = [
    measured(10.0, unit="ms", implementation="no routing", **CIFAR),
    measured(20.0, unit="ms", router="fm", implementation="plain", **CIFAR),
    measured(12.0, unit="ms", router="fm", implementation="fused", **CIFAR),
    measured(40.0, unit="ms", router="dynamic", implementation="plain", **CIFAR),
    measured(36.0, unit="ms", router="dynamic", implementation="fused", **CIFAR),
    measured(15.0, unit="ms", router="mine", implementation="plain", **CIFAR),
    measured(30.0, **CIFAR | {"subject": "capsnet, CIFAR-10"}, unit="ms", router="fm", implementation="plain"),
    measured(0.5, unit="÷ FM", implementation="no routing", **CIFAR),
    measured(2.0, unit="÷ FM", router="dynamic", implementation="plain", **CIFAR),
    measured(3.0, unit="÷ FM", router="dynamic", implementation="fused", **CIFAR),
    measured(0.75, unit="÷ FM", router="mine", implementation="plain", **CIFAR),
]
RECORD = {
    "schema": 2,
    "benchmark": "table1",
    "settings": {"repetitions": 7},
    "measurements": TABLE1,
    "devices": ["cpu, 2 threads"],
    "versions": {"torch": "2.14.1"},
}


def test_what_was_measured_stands_beside_the_papers() -> None:
    rows = table1(TABLE1)
    assert rows["Network"].tolist() == ["capsnet_light"] * 4 + ["capsnet"]
    light = rows[rows["Network"] == "capsnet_light"].set_index("Router")
    assert light.index.tolist() == ["no routing", "FM", "Dynamic (3)", "mine"]
    assert light.loc["Dynamic (3)"].tolist() == [
        "capsnet_light",
        "CIFAR-10, CPU",
        "40.00 (39.00, 40.00)",
        "2.00",
        "36.00 (35.00, 36.00)",
        "3.00",
        "274.58",
        "1.35",
    ]
    assert light.loc["FM", ["Plain ÷ FM", "Fused ÷ FM"]].tolist() == ["1.00", "1.00"]
    assert light.loc["no routing", ["Plain ÷ FM", "Fused ÷ FM", "Paper ms"]].tolist() == ["0.50", "–", "–"]
    assert light.loc["mine", ["Plain ÷ FM", "Fused ÷ FM", "Paper ms"]].tolist() == ["0.75", "–", "–"]
    assert set(light["Data"]) == {"CIFAR-10, CPU"}, "no GPU was measured"


def test_the_papers_numbers_stand_beside_the_network_that_its_authors_time() -> None:
    (full,) = table1(TABLE1).query("Network == 'capsnet'").to_dict("records")
    assert (full["Paper ms"], full["Paper ÷ FM"]) == ("–", "–")


def test_an_older_table_1_is_of_the_full_network() -> None:
    at = {"subject": "CIFAR-10", "quantity": "forward", "unit": "ms", "device": "CPU"}
    older = [measured(20.0, router="fm", **at), measured(10.0, implementation="no routing", **at)]
    older.append(measured(0.5, **at | {"unit": "÷ FM"}, implementation="no routing"))
    for one in older:
        del one["mean"]
    assert table1(older).to_dict("records") == [
        {
            "Network": "capsnet",
            "Data": "CIFAR-10, CPU",
            "Router": router,
            "Ours ms: median (least to most)": time,
            "Ours ÷ FM": ratio,
        }
        for router, time, ratio in (
            ("FM", "20.00 (19.00 to 21.00)", "1.00"),
            ("no routing", "10.00 (9.00 to 11.00)", "0.50"),
        )
    ]


def test_files(tmp_path: Path) -> None:
    write_benchmark(RECORD, tmp_path)
    assert json.loads((tmp_path / "table1.json").read_text()) == RECORD
    assert len(pd.read_csv(tmp_path / "table1.csv")) == 5
    assert "274.58" in (tmp_path / "table1.md").read_text()
    assert r"\toprule" in (tmp_path / "table1.tex").read_text()
    write_benchmark(RECORD | {"benchmark": "data"}, tmp_path)
    assert {path.name for path in tmp_path.glob("data.*")} == {"data.json"}


def layer_measurements(router: str = "fm") -> list[dict[str, Any]]:
    found = [measured(1.25, "CapsNet", "forward", "÷ votes alone", router=router, implementation="auto")]
    for direction in ("forward", "forward and backward"):
        for way, time in (("plain", 100.0), ("auto", 30.0)):
            found.append(measured(time, "CapsNet", direction, "ms", router=router, implementation=way))
        found.append(measured(0.3, "CapsNet", direction, "÷ plain", router=router, implementation="auto"))
    for way, size in (("plain", 6.0), ("auto", 0.1)):
        found.append(measured(size, "CapsNet", "extra memory", "÷ votes", router=router, implementation=way))
    for quantity, count in (("multiply-adds of products", 12.0), ("operations on elements", 34.0)):
        found.append(measured(count, "CapsNet", quantity, "M", router=router, implementation="auto"))
    return [*found, measured(25.0, "CapsNet", "forward", "ms", implementation="votes alone")]


def test_layers_plain_and_as_chosen() -> None:
    routed, alone = layer_table(layer_measurements()).to_dict("records")
    assert routed == {
        "Layer": "CapsNet",
        "Router": "FM",
        "Forward ms: median (least), plain → ours": "100.0 (99.0) → 30.0 (29.0)",
        "Forward, ours ÷ plain": "0.30",
        "Forward and backward ms: median (least), plain → ours": "100.0 (99.0) → 30.0 (29.0)",
        "Forward and backward, ours ÷ plain": "0.30",
        "Forward, ours ÷ votes alone": "1.25",
        "Peak of extra memory ÷ votes, plain → ours": "6.00 → 0.10",
        "Multiply-adds, M": "12",
        "On elements, M": "34",
    }
    assert alone["Router"] == "votes alone"
    assert alone["Forward ms: median (least), plain → ours"] == "25.0 (24.0)"
    assert alone["On elements, M"] == alone["Peak of extra memory ÷ votes, plain → ours"] == "–"


def test_a_router_of_ones_own_has_one_implementation() -> None:
    own = [one for one in layer_measurements("mean") if one["implementation"] == "auto" and one["unit"] != "÷ plain"]
    (row,) = layer_table(own).to_dict("records")
    assert row["Router"] == "mean"
    assert row["Forward ms: median (least), plain → ours"] == "– → 30.0 (29.0)"
    assert "Forward, ours ÷ plain" not in row, "a column that no row fills is left out"


def test_layers_with_several_batches_and_pages_and_what_they_are_measured_against() -> None:
    newer = []
    for size, pages in ((1, "dear"), (32, "dear"), (32, "cheap")):
        auto = {"router": "fm", "implementation": "auto"}
        units = {"÷ plain einsum": 0.5, "÷ arithmetic floor": 4.0, "GB/s": 2.0}
        for direction in ("forward", "forward and backward"):
            found = [measured(size * 1.0, "tiny", direction, "ms", **auto)]
            found += [measured(value, "tiny", direction, unit, **auto) for unit, value in units.items()]
            newer += [one | {"size": size, "pages": pages} for one in found]
    table = layer_table(newer)
    assert table[["Batch", "Pages", "Router"]].to_numpy().tolist() == [
        ["1", "dear", "FM"],
        ["32", "dear", "FM"],
        ["32", "cheap", "FM"],
    ]
    assert set(table["Ours ÷ einsum: forward, with backward"]) == {"0.50, 0.50"}
    assert set(table["Ours ÷ floor: forward, with backward"]) == {"4.0, 4.0"}
    assert set(table["Ours, GB/s: forward, with backward"]) == {"2.00, 2.00"}
    assert table["Forward ms: median (least), plain → ours"].tolist() == ["– → 1.0 (0.0)", *["– → 32.0 (31.0)"] * 2]


def test_a_page_shows_the_layers_ratios_at_each_batch_and_one_batch_in_full(tmp_path: Path) -> None:
    found = []
    for size, pages, ratio in ((1, "dear", 1.0), (128, "dear", 0.5), (128, "cheap", 0.25)):
        at = {"router": "fm", "implementation": "auto"}
        of_size = [measured(2.0, "tiny", "forward", "ms", **at), measured(ratio, "tiny", "forward", "÷ plain", **at)]
        of_size.append(measured(ratio / 2, "tiny", "forward and backward", "÷ plain", **at))
        found += [one | {"size": size, "pages": pages} for one in of_size]
    ratios, at_one = layer_tables_of_a_page(found)
    assert ratios.to_dict("records") == [
        {"Layer": "tiny", "Pages": "dear", "Router": "FM", "Batch 1": "1.00, 0.50", "Batch 128": "0.50, 0.25"},
        {"Layer": "tiny", "Pages": "cheap", "Router": "FM", "Batch 1": "–, –", "Batch 128": "0.25, 0.12"},
    ]
    assert at_one["Forward, ours ÷ plain"].tolist() == ["0.50"]
    path = tmp_path / "layer.json"
    path.write_text(json.dumps(RECORD | {"benchmark": "layer", "measurements": found}))
    assert benchmark_markdown(path).count("| Layer") == 2
    (whole,) = layer_tables_of_a_page([one for one in found if one["size"] == 1])
    assert whole.equals(layer_table(found[:3])), "one batch needs no table of ratios"


def test_training_plain_and_ours() -> None:
    plain, ours, lightning = ({"router": "fm", "implementation": way} for way in ("plain", "ours", "ours in Lightning"))
    measurements = [
        measured(100.0, "capsnet", "training", "images/s", **plain),
        measured(150.0, "capsnet", "training", "images/s", **ours),
        measured(1.5, "capsnet", "training", "times as fast as plain", **ours),
        measured(1.2, "capsnet", "training step", "÷ no routing", **ours),
        measured(9.0, "capsnet", "training step", "ms", implementation="no routing"),
        measured(0.97, "capsnet", "training", "times as fast as ours", **lightning),
    ]
    measurements.append(measured(1.1, "capsnet", "training", "times as fast as plain einsum", **ours))
    (row,) = train_table(measurements).to_dict("records")
    assert row["Ours, times as fast as einsum"] == "1.10"
    assert not [column for column in row if column.startswith("Inference")], "none was measured"
    inferred = [measured(rate, "capsnet", "inference", "images/s", **way) for rate, way in ((5.0, plain), (7.0, ours))]
    (more,) = train_table([*measurements, *inferred]).to_dict("records")
    assert more["Inference: images/s, plain → ours"] == "5 → 7"
    assert row["Router"] == "FM"
    assert row["Images/s, plain → ours"] == "100 → 150"
    assert row["Step, ours ÷ no routing"] == "1.20"
    assert "Compiled, times as fast" not in row, "nothing was compiled"
    assert row["Lightning ÷ bare loop"] == "0.97"


def test_contention_alone_and_in_company() -> None:
    measurements = [
        measured(time, "small", "training step", "ms", implementation=rule, size=size)
        for rule, size, time in (("no limit", 0, 50.0), ("our limit", 0, 51.0), ("no limit", 2, 1900.0))
    ]
    assert contention_table(measurements).to_dict("records") == [
        {
            "Threads": "no limit",
            "Alone, ms": "50 (49 to 51)",
            "Beside 2 busy processes, ms": "1,900 (1,899 to 1,901)",
        },
        {"Threads": "our limit", "Alone, ms": "51 (50 to 52)", "Beside 2 busy processes, ms": "–"},
    ]


def test_hours_of_each_experiment_and_of_all() -> None:
    hours = {"quantity": "all runs", "unit": "h"}
    measurements = [
        measured(20.0, "table2, svhn", "training step", "ms", router="fm"),
        measured(30.0, "table2, svhn", **hours, router="fm", size=3),
        measured(10.0, "table3, affnist", **hours, router="fm", size=3),
        measured(12.0, "table3, affnist", **hours, router="em", size=3),
        measured(30.0, "table2", **hours),
        measured(22.0, "table3", **hours),
        measured(52.0, "all experiments", **hours),
    ]
    table = hours_table(measurements)
    assert table.columns.tolist() == ["Experiment", "Runs", "Hours"]
    expected = [["table2", "3", "30"], ["table3", "6", "22"], ["all experiments", "9", "52"]]
    assert table.to_numpy().tolist() == expected


def test_pictures(tmp_path: Path) -> None:
    sizes = [measured(5.0, "children", "forward and backward", "ms", router="fm", size=size) for size in (2, 4)]
    draw_scaling(sizes, tmp_path)
    draw_layer(layer_measurements(), tmp_path)
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("scaling.png", "layer.png"))


def test_a_roofline_needs_operations_and_bytes(tmp_path: Path) -> None:
    draw_roofline(layer_measurements(), tmp_path)
    assert not (tmp_path / "roofline.png").exists(), "an older file has no bytes"
    newer = [measured(10.0, "copy", "bandwidth", "GB/s"), measured(50.0, "matrix product", "rate", "GFLOP/s")]
    for one in layer_measurements():
        newer.append(one | {"size": 128})
    for direction in ("forward", "forward and backward"):
        for unit, number in (("M operations", 400.0), ("MB that must move", 10.0)):
            newer.append(measured(number, "CapsNet", direction, unit, router="fm", implementation="auto", size=128))
    draw_roofline(newer, tmp_path)
    assert (tmp_path / "roofline.png").stat().st_size > 1000


def test_a_table_says_where_it_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "table1.json"
    path.write_text(json.dumps(RECORD))
    where = "*cpu, 2 threads; means of 7 repetitions in turn, torch 2.14.1"
    assert benchmark_markdown(path).endswith(f"{where}.*\n")
    path.write_text(json.dumps(RECORD | {"load": {"before": 0.1, "after": 1.9, "cores": 4}}))
    assert benchmark_markdown(path).endswith(f"{where}; load of the machine 0.1 before and 1.9 after, 4 cores.*\n")
    path.write_text(json.dumps(RECORD | {"benchmark": "data"}))
    with pytest.raises(ValueError, match=r"data; there are tables for contention, layer, paper, systems, table1"):
        benchmark_markdown(path)
    path.write_text(json.dumps({"benchmark": "table1", "measured": {}}))
    with pytest.raises(ValueError, match=r"older version; run capsbench benchmark table1 again"):
        benchmark_markdown(path)


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.md")), ids=lambda path: path.stem)
def test_published_benchmarks_are_what_their_measurements_give(path: Path, tmp_path: Path) -> None:
    write_benchmark(json.loads(path.with_suffix(".json").read_text()), tmp_path)
    for written in set(tmp_path.iterdir()) - set(tmp_path.glob("*.png")):
        assert written.read_text() == (path.parent / written.name).read_text()
