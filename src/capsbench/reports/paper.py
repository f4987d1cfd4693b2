"""The paper's experiments as data: what was run, how, and the numbers printed; read from paper.yaml."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from capsbench.experiments import Result

COUNTS = ("epochs", "steps")
CLASS = "._target_"


@dataclass(frozen=True)
class Number:
    """An accuracy as printed, in percent, and its deviation over seeds where one is given."""

    mean: float
    std: float | None = None


@dataclass(frozen=True)
class Reference:
    """A method of others, of which the paper's table has the numbers: by data title."""

    title: str
    parameters: str | None
    numbers: Mapping[str, Number]


@dataclass(frozen=True)
class Target:
    """A table or figure of the paper.

    Attributes:
        name: of the experiment that repeats it.
        title: for readers.
        expected_seeds: how many runs each of its rows is to have.
        data: titles of its data sets, in the paper's order.
        routers: titles of its routers by the name of the choice.
        protocol: what runs must be; `data_protocols` and `router_protocols` say what more on one set, with one router.
        numbers: the paper's, by (router, data title).
        references: methods of others.
    """

    name: str
    title: str
    expected_seeds: int
    data: tuple[str, ...]
    routers: Mapping[str, str]
    protocol: Mapping[str, Any]
    data_protocols: Mapping[str, Mapping[str, Any]]
    router_protocols: Mapping[str, Mapping[str, Any]]
    numbers: Mapping[tuple[str, str], Number]
    references: tuple[Reference, ...]

    def deviations(self, result: Result) -> tuple[str, ...]:
        """What sets a run apart from the paper's, in words; nothing if it may stand beside the paper's number."""
        words = [] if result.full else [f"{result.train_examples:,} training images"]
        more = self.data_protocols.get(official(result), {}), self.router_protocols.get(result.router, {})
        for key, wanted in {**self.protocol, **more[0], **more[1]}.items():
            found = _found(result, key)
            if found == wanted:
                continue
            if key in COUNTS:
                words.append(f"{found:,} of {wanted:,} {key}" if found < wanted else f"{found:,} {key}")
            elif key.endswith(CLASS):
                words.append(f"{key.removesuffix(CLASS)}={str(found).rpartition('.')[2]}")
            else:
                words.append(f"{key}={found}")
        return tuple(words)

    def repeats(self, result: Result) -> bool:
        """Whether the paper has such a run: this router on this data, in the same way."""
        return result.router in self.routers and official(result) in self.data and not self.deviations(result)


def official(result: Result) -> str:
    """The title of the data set that a result is about, be it measured on that or on what stands in for it."""
    return result.stands_in_for or result.data_title


@functools.cache
def targets() -> Mapping[str, Target]:
    """The paper's experiments by name, in its order."""
    content = _content()
    return {name: _target(name, found, content["routers"]) for name, found in content["experiments"].items()}


def inference_ms() -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """Table 1: ms per batch of 128, by data title, then gpu or cpu (GTX 1080 Ti, i7 at 3.5 GHz), then router."""
    return _content()["inference_ms"]


def _content() -> dict[str, Any]:
    return yaml.safe_load(files("capsbench.reports").joinpath("paper.yaml").read_text(encoding="utf-8"))


def _target(name: str, found: Mapping[str, Any], routers: Mapping[str, Any]) -> Target:
    data = found["data"]
    return Target(
        name=name,
        title=found["title"],
        expected_seeds=found["expected_seeds"],
        data=tuple(data),
        routers={router: routers[router]["title"] for router in found["routers"]},
        protocol=found["protocol"],
        data_protocols={title: one.get("protocol", {}) for title, one in data.items()},
        router_protocols={router: one["protocol"] for router, one in routers.items()},
        numbers={
            (router, title): Number(*number)
            for title, one in data.items()
            for router, number in one.get("numbers", {}).items()
        },
        references=tuple(
            Reference(
                other["title"],
                other.get("parameters"),
                {title: Number(*number) for title, number in other["numbers"].items()},
            )
            for other in found.get("references", [])
        ),
    )


def _found(result: Result, key: str) -> Any:
    if key in COUNTS:
        return getattr(result, key)
    if "." not in key:
        return {"arch": result.arch, **result.choices}.get(key)
    node: Any = result.settings
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node
