"""Finished runs, read from their folders and compared: one row per router, mean and deviation over seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from capsbench.experiments import RESULT_FILE, Result

PERCENT = 100


@dataclass(frozen=True)
class Run:
    """A finished run and its metrics per epoch."""

    result: Result
    folder: Path

    def curves(self) -> pd.DataFrame:
        """The metrics of each epoch, counted from 1."""
        return pd.DataFrame(list(self.result.history)).set_index("epoch")


@dataclass(frozen=True)
class Panel:
    """Runs that are comparable: the same data and architecture, their routers side by side.

    Attributes:
        title: "data / architecture"; with the number of training images where the set was cut.
        routers: the runs of each router; where more than the seed differs, the label says what.
        table: one row per router, ready for a reader.
    """

    title: str
    routers: Mapping[str, list[Run]]
    table: pd.DataFrame


def load_runs(root: Path) -> list[Run]:
    """The finished runs below a folder, smoke runs left out, in the order of their paths.

    Raises:
        ValueError: there are none.
    """
    folders = sorted(path.parent for path in root.rglob(RESULT_FILE))
    runs = [Run(Result.load(folder), folder) for folder in folders]
    whole = [run for run in runs if not run.result.smoke and run.result.epochs > 0]
    if not whole:
        smoke = f" ({len(runs)} smoke runs do not count)" if runs else ""
        raise ValueError(f"no finished runs in {root}{smoke}; make some with: capsbench train experiment={root.name}")
    return whole


def panels(runs: list[Run]) -> list[Panel]:
    """Sort runs into panels, the best router first in each."""
    frame = pd.DataFrame({"title": [_title(run.result) for run in runs]})
    frame["router"] = [run.result.router for run in runs]
    frame["label"] = frame["router"]
    for _, group in frame.groupby("title"):
        frame.loc[group.index, "label"] += [_suffix(text) for text in _differences([runs[i] for i in group.index])]
    found = []
    for title, group in frame.groupby("title"):
        routers = {str(label): [runs[i] for i in rows.index] for label, rows in group.groupby("label")}
        found.append(Panel(str(title), routers, _table(routers)))
    return found


def _title(result: Result) -> str:
    part = "" if result.full else f", {result.train_examples:,} training images"
    return f"{result.data_title}{part} / {result.arch}"


def _differences(runs: list[Run]) -> list[str]:
    """What tells each run from the others beside router and seed: "loss=spread, router.iterations=1", or nothing.

    A part of the configuration that was chosen by name is told by that name, and by single settings only where they
    differ under one name; so what routers have of their own is told only where one router was run in several ways.
    """
    described = [_describe(run.result) for run in runs]
    keys = sorted({key for settings in described for key in settings})
    varying = [key for key in keys if len({settings.get(key) for settings in described}) > 1]
    told: list[list[str]] = [[] for _ in described]
    for key in varying:
        part = key.partition(".")[0]
        if key == "router":
            continue  # the label begins with it
        by_name: dict[str | None, set[str | None]] = {}
        for settings in described:
            by_name.setdefault(settings.get(part), set()).add(settings.get(key))
        for words, settings in zip(told, described, strict=True):
            if key in settings and (key == part or len(by_name[settings.get(part)]) > 1):
                words.append(f"{key}={settings[key]}")
    return [", ".join(words) for words in told]


def unfinished(root: Path) -> list[Path]:
    """Folders below `root` whose run was begun and has no result: failed, stopped, or still going."""
    begun = {path.parent for path in root.rglob("config.yaml")}
    return sorted(folder for folder in begun if not (folder / RESULT_FILE).exists())


def _describe(result: Result) -> dict[str, str]:
    """Every setting that is not the seed as text, by its dotted name; a part's own name is the choice made for it."""
    flat = pd.json_normalize(dict(result.settings)).iloc[0].to_dict()
    named = {str(key): str(value) for key, value in flat.items()}
    settings = {key: value for key, value in named.items() if not key.endswith("seed") and "._" not in key}
    return settings | dict(result.choices)


def _suffix(text: str) -> str:
    return f" ({text})" if text else ""


def _table(routers: Mapping[str, list[Run]]) -> pd.DataFrame:
    """One row per router: accuracy in percent with its deviation over seeds (ddof 1), size and speed."""
    rows = []
    for label, runs in routers.items():
        metrics = pd.DataFrame([dict(run.result.metrics) for run in runs])
        accuracy = PERCENT * metrics["test/accuracy"]
        rows.append(
            {
                "mean": accuracy.mean(),
                "Router": label,
                "Test accuracy %": f"{accuracy.mean():.2f}" + (f" ± {accuracy.std():.2f}" if len(runs) > 1 else ""),
                "Seeds": str(len(runs)),
                "Parameters": f"{runs[0].result.parameters:,}",
                "Training images/s": f"{metrics['train/images_per_second'].mean():,.0f}",
                "Inference ms/batch": f"{metrics['inference/ms_per_batch'].mean():.1f}",
            }
        )
    return pd.DataFrame(rows).sort_values("mean", ascending=False, ignore_index=True).drop(columns="mean")
