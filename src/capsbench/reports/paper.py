"""The paper's experiments as data: what was run, how, and the numbers printed; read from paper.yaml."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pandas as pd
import yaml

from capsbench.runs import Result

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
        open: settings that a run may have beside these.
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
    open: frozenset[str]
    numbers: Mapping[tuple[str, str], Number]
    references: tuple[Reference, ...]

    def deviations(self, result: Result) -> tuple[str, ...]:
        """What sets a run apart from the paper's, in words; nothing if it may stand beside the paper's number.

        A part that was chosen by another name (loss=spread) is told by that, not by each of its settings; and what is
        set for a router or for data that the paper does not have differs from nothing.
        """
        words = [] if result.full else [f"{result.train_examples:,} training images"]
        data, router = official(result), result.router
        wanted = {**self.protocol, **self.data_protocols.get(data, {}), **self.router_protocols.get(router, {})}
        settings = flat(result.settings)
        found = {**settings, **result.choices, "arch": result.arch, "epochs": result.epochs, "steps": result.steps}
        others = {key for key in wanted if "." not in key and found.get(key) != wanted[key]}
        others |= {
            part for part, known in (("data", data in self.data), ("router", router in self.routers)) if not known
        }
        for key in dict.fromkeys([*wanted, *(key for key in settings if key not in self.open)]):
            here: Any = found.get(key)
            there: Any = wanted.get(key)
            part, *below = key.split(".")
            if here == there or (below and part in others):
                continue
            if key in COUNTS:
                words.append(f"{here:,} of {there:,} {key}" if here < there else f"{here:,} {key}")
            elif key.endswith(CLASS):
                words.append(f"{key.removesuffix(CLASS)}={str(here).rpartition('.')[2]}")
            else:
                words.append(f"{key}={here}")
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
    return {name: _target(name, found, content) for name, found in content["experiments"].items()}


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by their dotted names; but for `_partial_`, which says only how an object is made."""
    (record,) = pd.json_normalize(dict(settings)).to_dict("records")
    return {str(key): value for key, value in record.items() if not str(key).endswith("._partial_")}


def inference_ms() -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """Table 1: ms per batch of 128, by data title, then gpu or cpu (GTX 1080 Ti, i7 at 3.5 GHz), then router."""
    return _content()["inference_ms"]


def _content() -> dict[str, Any]:
    return yaml.safe_load(files("capsbench.reports").joinpath("paper.yaml").read_text(encoding="utf-8"))


def _target(name: str, found: Mapping[str, Any], content: Mapping[str, Any]) -> Target:
    data, routers = found["data"], content["routers"]
    return Target(
        name=name,
        title=found["title"],
        expected_seeds=found["expected_seeds"],
        data=tuple(data),
        routers={router: routers[router]["title"] for router in found["routers"]},
        protocol=found["protocol"],
        data_protocols={title: one.get("protocol", {}) for title, one in data.items()},
        router_protocols={router: one["protocol"] for router, one in routers.items()},
        open=frozenset(content["open"]),
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
