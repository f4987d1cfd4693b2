"""The paper's tables and figures as data: their titles and numbers, read from paper.yaml."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import yaml

AUTHORS = "authors"
FORMER = "v1"
"""Endings of experiments' names: table3_authors, table3_v1."""


@dataclass(frozen=True)
class Number:
    """An accuracy as printed, in percent, and its deviation over seeds where one is given."""

    mean: float
    std: float | None = None


@dataclass(frozen=True)
class Reference:
    """A method of others with its numbers in the paper's table, by data title."""

    title: str
    parameters: str | None
    numbers: Mapping[str, Number]


@dataclass(frozen=True)
class Target:
    """A table or figure of the paper.

    Attributes:
        name: of the experiment that repeats it: "table3" in the paper's protocol, "table3_authors" in the authors'.
        title: for readers.
        expected_seeds: how many runs each row has.
        routers: names of its routers in conf/router, in the paper's order.
        data: names of its data sets in conf/data, by their titles, in the paper's order.
        numbers: the paper's, by (router, data title).
        references: methods of others.
        authors: the routers that the authors' protocol has in the place of the paper's; none: there is none.
        method: of others that the experiment trains as it was published; None: it trains the paper's.
    """

    name: str
    title: str
    expected_seeds: int
    routers: tuple[str, ...]
    data: Mapping[str, str]
    numbers: Mapping[tuple[str, str], Number]
    references: tuple[Reference, ...]
    authors: Mapping[str, str]
    method: Reference | None = None

    def of_authors(self) -> "Target":
        """Return the target in the authors' protocol, where another of our routers stands for the paper's FM."""
        return replace(
            self,
            name=f"{self.name}_{AUTHORS}",
            title=f"{self.title} (authors' protocol)",
            routers=tuple(self.authors.get(router, router) for router in self.routers),
            numbers={
                (self.authors.get(router, router), data): number for (router, data), number in self.numbers.items()
            },
        )


def target_of(experiment: str) -> Target | None:
    """Return what an experiment of ours repeats: "table3" and "table3_authors" table 3, each in its own protocol.

    What was published with former settings ("table3_v1") is set against the paper's protocol. "table2_hitnet" is a
    method of others in table 2. None: no experiment of the paper.
    """
    for table in _content()["recipes"]:
        if experiment in recipes(table):
            return recipes(table)[experiment]
    name, _, protocol = experiment.partition("_")
    target = targets().get(name)
    if target is None or protocol not in ("", AUTHORS, FORMER):
        return None
    return target.of_authors() if protocol == AUTHORS else target


def router_title(router: str, iterations: int | None = None) -> str:
    """Return a router's title: "FM", "Dynamic (3)"; a router that the paper lacks is called by its name.

    Args:
        router: its name in conf/router.
        iterations: of routing; None: those of the name.

    >>> router_title("dynamic1"), router_title("dynamic", 5), router_title("mean")
    ('Dynamic (1)', 'Dynamic (5)', 'mean')
    """
    title: str = _content()["routers"].get(router, router)
    return title if iterations is None else re.sub(r"\(\d+\)$", f"({iterations})", title)


@functools.cache
def targets() -> Mapping[str, Target]:
    """Return the paper's experiments by name, in its order."""
    return {name: _target(name, found) for name, found in _content()["experiments"].items()}


@functools.cache
def recipes(table: str) -> Mapping[str, Target]:
    """Return the experiments that train the methods of others in a table, each as it was published, by name."""
    whole = targets()[table]
    references = {other.title: other for other in whole.references}
    found = {}
    for name, recipe in _content()["recipes"].get(table, {}).items():
        method, router = references[recipe["system"]], recipe["router"]
        data = {title: one for title, one in whole.data.items() if one in recipe["data"]}
        on = f" on {next(iter(data))}" if len(data) == 1 else ""
        found[name] = replace(
            whole,
            name=name,
            title=f"{whole.title.partition(':')[0]}: {method.title} as published{on}",
            routers=(router,),
            data=data,
            numbers={(router, title): method.numbers[title] for title in data},
            references=(),
            authors={},
            method=method,
        )
    return found


def inference_ms() -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """Return table 1: ms per batch of 128, by data title, then gpu or cpu (GTX 1080 Ti, i7 at 3.5 GHz), then router."""
    table: Mapping[str, Mapping[str, Mapping[str, float]]] = _content()["inference_ms"]
    return table


@functools.cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(
        files("capsbench.reports").joinpath("paper.yaml").read_text(encoding="utf-8")
    )
    return content


def _target(name: str, found: Mapping[str, Any]) -> Target:
    titles = _content()["data"]
    return Target(
        name=name,
        title=found["title"],
        expected_seeds=found["seeds"],
        routers=tuple(found["routers"]),
        data={titles[data]: data for data in found["data"]},
        numbers={
            (router, titles[data]): Number(*number)
            for data, numbers in found["data"].items()
            for router, number in numbers.items()
        },
        references=tuple(
            Reference(
                other["title"],
                other.get("parameters"),
                {titles[data]: Number(*number) for data, number in other["numbers"].items()},
            )
            for other in found.get("references", [])
        ),
        authors=found.get("authors", {}),
    )
