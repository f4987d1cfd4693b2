"""What sets a run apart from the paper's: its settings against those that the experiment's file composes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from capsbench.reports.paper import Target
from capsbench.runs import Identity, Result
from capsbench.runs.identity import completed, settings_of

Protocols = Callable[[str, str, str], Identity]
"""Composes the paper's run: (experiment, data, router), by their names in conf/."""

CHOICES = ("decoder", "loss", "optim")
"""Parts that a run names by its choice; their settings are compared where the choice is the paper's."""
CLASS = ".class"
OPEN = frozenset(
    {
        "seed",
        # how numbers are computed: the same numbers, but for rounding
        "channels_last",
        "compile",
        "devices.kind",
        "devices.number",
        "optim.optimizer.fused",
        "router.implementation",
        # which data: a row names the set and its part
        "data.background",
        "data.class",
        "data.fit",
        "data.layout",
        "data.value_range",
        "data.augmentation.class",
        "data.absent",
        "data.path",
        "data.seed",
        "data.skip_unreadable",
        "data.stands_in_for",
        "data.subset",
        "data.test_fraction",
        "data.test_source",
        "data.title",
        "data.val_split",
        "data.val_fraction",
        "data.eval_batch_size",
        "trainer.check_val_every_n_epoch",
        "trainer.deterministic",
        # how long: epochs and steps are counted, and a limit on batches makes a smoke run
        "trainer.limit_test_batches",
        "trainer.limit_train_batches",
        "trainer.limit_val_batches",
        "trainer.max_epochs",
        "trainer.max_steps",
    }
)
"""Settings that leave a run the paper's."""
OPEN_OF_DATA = {"affNIST": frozenset({"data.per_digit"})}
"""Those of one data set: affNIST's test images per digit."""


@dataclass(frozen=True)
class Paper:
    """A table or figure of the paper, and the runs that it is made of.

    Attributes:
        target: its numbers.
        protocols: composes its runs.
    """

    target: Target
    protocols: Protocols

    def deviations(self, result: Result) -> tuple[str, ...]:
        """Say what sets a run apart from the paper's; nothing if the paper's number may stand beside it.

        A part that was chosen by another name is told by that name (loss=spread), without its settings; of another size
        of the paper's architecture (arch=capsnet_light) what its name does not stand for is told, too. Settings of a
        router or data set that the paper lacks are not told: its row names it.

        Returns:
            First the part of the training set and the length, then settings by name.
        """
        return (*self.shortened(result), *(f"{key}={ours}" for key, (ours, _) in self.changes(result).items()))

    def shortened(self, result: Result) -> tuple[str, ...]:
        """Say how much less a run was trained on, and for how long: "2,000 of 40,000 steps"."""
        part = [] if result.full else [f"{result.train_examples:,} training images"]
        return (*part, *_length(result, self._run_like(result)))

    def changes(self, result: Result) -> dict[str, tuple[str, str]]:
        """Return the settings in which a run departs from the paper's, sorted by name: ours and the paper's."""
        paper = self._run_like(result)
        ours, theirs = flat(completed(result.settings)), flat(completed(paper.settings))
        names: dict[str, tuple[str | None, str | None]] = {"arch": (result.arch, paper.arch)}
        names |= {part: (result.choices.get(part), paper.choices.get(part)) for part in CHOICES}
        if result.router in self.target.authors:  # the paper's own FM, where the authors' protocol has another
            names["router"] = (result.router, paper.router)
        found = {part: (text(here), text(there)) for part, (here, there) in names.items() if here != there}
        others = set(found)
        others |= set() if official(result) in self.target.data else {"data"}
        others |= set() if result.router in self.target.routers else {"router"}
        if "arch" in others and ours.get("arch.class") == theirs.get("arch.class"):
            others.remove("arch")
            theirs |= {f"arch.{key}": value for key, value in settings_of("arch", result.arch).items()}
        told = flat(result.settings).keys() | flat(paper.settings).keys()
        for key in told - OPEN - OPEN_OF_DATA.get(official(result), frozenset()):
            if ours.get(key) != theirs.get(key) and key.partition(".")[0] not in others:
                found[key.removesuffix(CLASS)] = text(ours.get(key)), text(theirs.get(key))
        return dict(sorted(found.items()))

    def repeats(self, result: Result) -> bool:
        """Tell whether the paper has such a run: this router on this data, in the same way."""
        known = result.router in self.target.routers and official(result) in self.target.data
        return known and not self.deviations(result)

    def _run_like(self, result: Result) -> Identity:
        """The paper's run with this data and router, or with its first where it lacks them."""
        data = self.target.data.get(official(result), next(iter(self.target.data.values())))
        router = result.router if result.router in self.target.routers else self.target.routers[0]
        return self.protocols(self.target.name, data, router)


def official(result: Result) -> str:
    """Return the title of the data set that a result is about, also where another set stands in for it."""
    return result.stands_in_for or result.data_title


def text(value: Any) -> str:
    """Write a value as in a configuration: null, true."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Name nested settings by dotted names; of an object its class counts by name, so that it may move.

    >>> flat({"optim": {"optimizer": {"_target_": "torch.optim.Adam", "lr": 0.001}}})
    {'optim.optimizer.class': 'Adam', 'optim.optimizer.lr': 0.001}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{name}": inner for name, inner in flat(value).items()}
        elif key == "_target_":
            found[CLASS.removeprefix(".")] = str(value).rpartition(".")[2]
        elif key != "_partial_":
            found[key] = value
    return found


def _length(result: Result, paper: Identity) -> list[str]:
    """How much shorter or longer a run is than the paper's: "2,000 of 40,000 steps"."""
    trainer = paper.settings["trainer"]
    counted = "steps" if trainer["max_steps"] > 0 else "epochs"
    here, there = getattr(result, counted), trainer[f"max_{counted}"]
    if here == there:
        return []
    return [f"{here:,} of {there:,} {counted}" if here < there else f"{here:,} {counted}"]
