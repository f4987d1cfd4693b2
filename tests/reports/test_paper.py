"""The paper's numbers and titles."""

import pytest

from capsbench.reports.paper import Number, inference_ms, router_title, target_of, targets


@pytest.mark.parametrize(
    ("experiment", "data", "router", "number"),
    [
        ("table2", "Fashion-MNIST", "fm", Number(94.70, 0.17)),
        ("table2", "CIFAR-10", "fm", Number(93.20, 0.24)),
        ("table2", "SVHN", "fm", Number(96.79, 0.04)),
        ("table3", "affNIST", "fm", Number(93.85, 0.29)),
        ("table3", "affNIST", "dynamic", Number(92.06, 0.71)),
        ("table3", "affNIST", "em", Number(78.29, 2.04)),
        ("table5", "Multi-MNIST", "fm", Number(94.5)),
        ("table6", "smallNORB", "dynamic1", Number(91.74, 0.86)),
        ("table6", "smallNORB", "dynamic2", Number(92.73, 0.62)),
        ("table6", "smallNORB", "dynamic", Number(93.36, 0.69)),
        ("table6", "smallNORB", "em1", Number(91.28, 1.02)),
        ("table6", "smallNORB", "em2", Number(93.55, 0.75)),
        ("table6", "smallNORB", "em", Number(92.33, 0.64)),
        ("table6", "smallNORB", "fm", Number(93.60, 0.53)),
    ],
)
def test_the_papers_numbers(experiment: str, data: str, router: str, number: Number) -> None:
    assert targets()[experiment].numbers[router, data] == number


def test_methods_of_others() -> None:
    by_title = {other.title: other for other in targets()["table2"].references}
    assert list(by_title) == ["Sabour et al.", "Hinton et al.", "Nair et al.", "HitNet", "DeepCaps"]
    assert by_title["DeepCaps"].numbers["SVHN"] == Number(97.16)
    assert set(by_title["Hinton et al."].numbers) == {"CIFAR-10"}
    assert [other.numbers["affNIST"].mean for other in targets()["table3"].references] == [79.00, 93.10]


def test_what_an_experiment_repeats() -> None:
    table3, authors = target_of("table3"), target_of("table3_authors")
    assert table3 is not None
    assert authors is not None
    assert (table3.name, authors.name) == ("table3", "table3_authors")
    assert table3.routers == ("fm", "dynamic", "em")
    assert authors.routers == ("fm_squash", "dynamic", "em")
    assert authors.numbers["fm_squash", "affNIST"] == table3.numbers["fm", "affNIST"]
    assert target_of("table3_v1") == table3, "former settings are set against the paper's"
    assert [target_of(name) for name in ("demo", "table3_mine", "table1", "affnist_authors")] == [None] * 4


def test_table_1() -> None:
    assert inference_ms()["CIFAR-10"]["gpu"] == {"dynamic1": 5.79, "dynamic": 8.89, "fm": 5.22}
    assert inference_ms()["Fashion-MNIST"]["cpu"]["dynamic"] == 157.69


@pytest.mark.parametrize(
    ("router", "iterations", "title"),
    [
        ("fm", None, "FM"),
        ("dynamic", None, "Dynamic (3)"),
        ("dynamic1", 1, "Dynamic (1)"),
        ("em", 5, "EM (5)"),
        ("mean", 2, "mean"),
    ],
)
def test_titles_of_routers(router: str, iterations: int | None, title: str) -> None:
    assert router_title(router, iterations) == title
