"""What sets runs apart from one another, in as few words as tell them all."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from capsbench.reports.protocol import flat, text
from capsbench.reports.runs import Run
from capsbench.runs import Result
from capsbench.runs.identity import changes, completed

UNCLEAR = frozenset(
    ("class", "decay", "end", "eps", "filters", "init", "normalize", "output", "places", "reduction", "scale", "start")
) | {"kind", "number"}
"""Last names of settings that say too little without their part."""
COLUMNS = frozenset(
    ("accuracy", "baseline", "crashed", "data", "did_not_learn", "difference", "difference_high", "difference_low")
) | frozenset(("high", "identity_version", "inference_ms_per_batch", "learned", "learned_high", "learned_low"))
COLUMNS |= frozenset(("learned_mean", "low", "mean", "metric", "n", "p_holm", "pairs", "paper_mean", "paper_std"))
COLUMNS |= frozenset(("parameters", "probability_of_improvement", "protocol", "router", "seed", "seeds_missing"))
COLUMNS |= frozenset(("stand_in", "std", "training_images_per_s", "training_s", "verdict"))
"""What tables call their own columns."""
DATA_SEED = "data.seed"
NO_CHOICE = ("logger", "trainer")
"""Choices whose name decides no number."""


@dataclass(frozen=True)
class Differences:
    """What sets a run apart from others, by dotted names of settings; a part that was chosen by name has its name.

    Attributes:
        words: how much less the run was trained, and for how long.
        all: every setting in which the others differ from one another.
        departures: those in which the run departs from `usual`.
        matched: settings that a baseline must share: the departures, and those in which no run has a default.
        told: the departures, and what a run of the same router changes alone.
        usual: what the others have that say nothing of it.
    """

    words: tuple[str, ...]
    all: Mapping[str, str]
    departures: Mapping[str, str]
    matched: Mapping[str, str]
    told: Mapping[str, str]
    usual: Mapping[str, str]

    @classmethod
    def of(cls, words: tuple[str, ...], changes: Mapping[str, tuple[str, str]]) -> "Differences":
        """Those of a run that departs from another in these settings: its own values and the other's."""
        ours = {key: here for key, (here, _) in changes.items()}
        return cls(words, ours, ours, ours, ours, {key: there for key, (_, there) in changes.items()})

    def __or__(self, more: "Differences") -> "Differences":
        """Add differences in other settings."""
        return Differences(
            (*self.words, *more.words),
            {**self.all, **more.all},
            {**self.departures, **more.departures},
            {**self.matched, **more.matched},
            {**self.told, **more.told},
            {**more.usual, **self.usual},
        )


def differences(runs: Sequence[Run]) -> list[Differences]:
    """Name what sets each run apart from the others, beside router and seed.

    A router's own settings are compared with those of runs of the same router, and the settings of another part with
    those of runs that chose it by the same name. A departure is from the default, where some run has it, or else from
    what most runs have.

    The words of two runs differ wherever a setting does: a run tells a setting that it alone would need to change to
    become its neighbour.
    """
    settings = _all_described(runs)
    changed = [flat(changes(run.result.settings)) for run in runs]
    used = {key for each in changed for key in each} | {key for run in runs for key in run.result.choices}
    used.add("callbacks")
    keys = [key for key in sorted(used - {"router"}) if len({each.get(key) for each in settings}) > 1]
    varying: list[dict[str, str]] = [{} for _ in runs]
    usual: list[dict[str, str]] = [{} for _ in runs]
    unlike: list[set[str]] = [set() for _ in runs]
    for key in keys:
        groups: dict[str | None, list[int]] = {}
        for number, each in enumerate(settings):
            groups.setdefault(_choice(key, each), []).append(number)
        for numbers in groups.values():
            found = {number: settings[number][key] for number in numbers if key in settings[number]}
            if len({settings[number].get(key) for number in numbers}) > 1:
                default = {v for n, v in found.items() if key not in changed[n] and key not in runs[n].result.choices}
                base = _most_common([value for value in found.values() if not default or value in default])
                for number in numbers:
                    usual[number][key] = base
                for number, value in found.items():
                    varying[number][key] = value
                    if value != base or not default:
                        unlike[number].add(key)
    routers = [run.result.router for run in runs]
    told = []
    for own, base_of, matched, router in zip(varying, usual, unlike, routers, strict=True):
        siblings = {tuple(sorted(o.items())): o for o, r in zip(varying, routers, strict=True) if r == router}
        departures = {key: value for key, value in own.items() if value != base_of[key]}
        alone = _changed_alone(own, list(siblings.values()))
        told.append(
            Differences(
                words=(),
                all=own,
                departures=departures,
                matched={key: own[key] for key in own if key in matched},
                told={key: own[key] for key in own if key in departures or key in alone},
                usual=base_of,
            )
        )
    return told


def _changed_alone(own: Mapping[str, str], siblings: Sequence[Mapping[str, str]]) -> set[str]:
    """The settings of the smallest sets in which siblings differ from a run."""
    apart = [
        frozenset(key for key in own.keys() | other.keys() if own.get(key) != other.get(key)) for other in siblings
    ]
    apart = [keys for keys in apart if keys]
    return {key for keys in apart if not any(other < keys for other in apart) for key in keys}


def _most_common(values: Sequence[str]) -> str:
    counted = Counter(values)
    return min(counted, key=lambda value: (-counted[value], value))


def _choice(key: str, settings: Mapping[str, str]) -> str | None:
    """The name under which a setting is compared."""
    part = key.partition(".")[0]
    return None if part == key else settings.get(part)


def described(result: Result) -> dict[str, str]:
    """Return every setting but the seed as text, by its dotted name; a part's own name has the choice made for it."""
    found: dict[str, Any] = flat(completed(result.settings))
    seed = found.pop("seed", None)
    if found.get(DATA_SEED) == seed:
        found.pop(DATA_SEED, None)
    named = {part: name for part, name in result.choices.items() if part not in NO_CHOICE}
    named["callbacks"] = "+".join(result.settings.get("callbacks", {})) or "none"
    return {key: text(value) for key, value in found.items()} | named


def _all_described(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Describe runs; the seed of their data counts where it is the same over several seeds."""
    settings = [described(run.result) for run in runs]
    seeds = [(run.result.seed, run.result.settings.get("data", {}).get("seed")) for run in runs]
    fixed = {of_data for seed, of_data in seeds if of_data != seed}
    if {of_data for seed, of_data in seeds if of_data == seed} <= fixed - {None}:
        return [
            each | {DATA_SEED: text(of)} if of is not None else each
            for each, (_, of) in zip(settings, seeds, strict=True)
        ]
    return settings


def short_names(settings: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Give settings their last name where it is clear, and nothing else has it: "vote_gain", but "loss.scale".

    Args:
        settings: of the runs of a table, as described.
    """
    keys = {key for each in settings for key in each}
    last = Counter(key.rpartition(".")[2] for key in keys)
    short = {key: key.rpartition(".")[2] for key in keys}
    return {key: name if last[name] == 1 and name not in UNCLEAR | COLUMNS else key for key, name in short.items()}
