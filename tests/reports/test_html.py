"""The page is self-contained, and works in a browser."""

import json
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from capsbench.launch.protocols import protocol
from capsbench.reports.comparison import Comparison
from capsbench.reports.html import write_page
from capsbench.reports.measured import OF_SINGLE_DIGITS, PAIRS, PREDICTORS, UNITS

AddRun = Callable[..., Path]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


class Tags(HTMLParser):
    """Every element with its attributes; what stands in a script or style is not markup."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def attributes(self, *names: str) -> list[str]:
        return [value or "" for _, found in self.found for name, value in found.items() if name in names]


@pytest.fixture
def outputs(add_run: AddRun, add_paper_run: AddRun, tmp_path: Path) -> Path:
    for seed in (1, 2):
        add_run(tmp_path / "demo", "fm", seed, 0.9 + seed / 100, epochs=3)
        add_run(tmp_path / "demo", "em", seed, 0.8 + seed / 100, epochs=3)
        add_paper_run(tmp_path, "table3", "fm", seed, 0.9 + seed / 100)
    return tmp_path


def page(outputs: Path, *names: str, interactive: bool = True) -> str:
    path = outputs / "page.html"
    write_page(path, "<all>", [Comparison.of(outputs / name, protocol) for name in names], interactive=interactive)
    return path.read_text()


@pytest.mark.parametrize("interactive", [True, False])
def test_the_page_asks_for_nothing(outputs: Path, interactive: bool) -> None:
    tags = Tags(page(outputs, "demo", "table3", interactive=interactive))
    assert POLICY in tags.attributes("content")
    assert all(link.startswith(("#", "data:")) for link in tags.attributes("src", "href", "xlink:href", "srcset"))
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in tags.found}
    assert "@import" not in "".join(style for style in tags.attributes("style"))


def test_a_static_page_is_small_and_has_no_script(outputs: Path) -> None:
    html = page(outputs, "demo", "table3", interactive=False)
    assert "<script" not in html
    assert html.count("<svg") == 2, "curves of either experiment"
    assert len(html.encode()) < 2**20


def test_the_page_shows_every_experiment(outputs: Path) -> None:
    html = page(outputs, "table3", "demo")
    assert "&lt;all&gt;" in html
    assert {"#demo", "#table3"} <= set(Tags(html).attributes("href"))
    assert "<td>93.85 ± 0.29</td>" in html
    assert "(1 of 3 seeds missing)</span>" in html
    assert 'data-label="EM (3)"' in html


def test_a_page_of_smoke_runs_says_so_at_its_top(outputs: Path, add_run: AddRun) -> None:
    add_run(outputs / "tried", "fm", 1, 0.1, smoke=True)
    (warning,) = (tag for tag in Tags(page(outputs, "tried")).found if tag[1].get("class") == "smoke")
    assert warning
    assert page(outputs, "tried").index('class="smoke"') < page(outputs, "tried").index("<section")
    assert 'class="smoke"' not in page(outputs, "demo")


def test_a_sweep_of_a_setting_has_a_figure_instead_of_curves(outputs: Path, add_run: AddRun) -> None:
    for gain in (0.25, 1.0):
        add_run(outputs / "gains", "fm", 1, 0.9, settings={"arch": {"vote_gain": gain}})
    html = page(outputs, "gains")
    assert html.count("<svg") == 1
    assert "<script" not in html, "nothing in it needs plotly.js"
    assert "vote_gain" in html


@pytest.mark.parametrize(
    ("measured", "names", "told"),
    [
        ({"measure": PAIRS}, PREDICTORS, "the difference of the two transformations"),
        ({}, OF_SINGLE_DIGITS, "predicts each parameter"),
    ],
)
def test_the_page_says_how_equivariance_was_measured(
    tmp_path: Path, add_run: AddRun, measured: dict[str, str], names: dict[str, str], told: str
) -> None:
    r2 = {parameter: {"value": 0.5, "low": 0.4, "high": 0.6, "digits": 250} for parameter in UNITS}
    curve = {"values": [0, 1], "accuracy": [0.9, 0.8], "activation_change": [0.0, 0.1]}
    curve |= {"accuracy_area": 0.85, "change_area": 0.05}
    content = measured | {"equivariance": dict.fromkeys(names, r2), "invariance": dict.fromkeys(UNITS, curve)}
    (add_run(tmp_path / "demo", "fm", 1, 0.9) / "equivariance.json").write_text(json.dumps(content))
    notes = " ".join(page(tmp_path, "demo", interactive=False).split())
    assert told in notes
    assert notes.count("ridge regression") == 1


def test_accuracy_per_class_can_be_unfolded(outputs: Path, add_run: AddRun) -> None:
    counts = {"test": [[3, 1], [0, 4]]}
    add_run(outputs / "counted", "fm", 1, 0.9, confusion=counts, class_names=["cat", "<dog>"])
    html = page(outputs, "counted", interactive=False)
    assert Tags(html).attributes("class").count("classes") == 1
    assert "<td>75.0</td>" in html
    assert "&lt;dog&gt;" in html
    assert 'class="classes"' not in page(outputs, "demo", interactive=False)


def browse(path: Path, profile: Path, *options: str) -> str:
    """The page's elements as the browser has them after its scripts ran."""
    assert CHROMIUM
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=8000", *options, "--dump-dom", path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_in_a_browser_curves_are_drawn_and_routers_can_be_hidden(outputs: Path, tmp_path: Path) -> None:
    html = page(outputs, "demo")
    watch = """<script>
      const blocked = [];
      document.addEventListener("securitypolicyviolation", violation => blocked.push(violation.blockedURI));
    </script><meta name="viewport" """
    click = """<script>
      const fm = [...document.querySelectorAll(".buttons button")].find(button => button.dataset.label === "FM");
      fm.click();
      const narrow = document.documentElement.scrollWidth <= innerWidth;
      document.body.dataset.seen = JSON.stringify([...document.querySelectorAll(".js-plotly-plot")].map(
        plot => plot.data.filter(line => line.visible !== false).map(line => line.legendgroup)));
      document.body.dataset.fits = narrow;
      document.body.dataset.blocked = JSON.stringify(blocked);
      fetch("https://example.org/").catch(() => document.body.dataset.fetched = "refused");
    </script></body>"""
    changed = tmp_path / "clicked.html"
    changed.write_text(html.replace('<meta name="viewport"', watch).replace("</body>", click))
    dom = browse(changed, tmp_path / "profile", "--window-size=500,900")
    tags = Tags(dom)
    plots = [found for _, found in tags.found if "js-plotly-plot" in (found.get("class") or "").split()]
    lines = [found for _, found in tags.found if "scatterlayer" in (found.get("class") or "").split()]
    assert len(plots) == 3, "training and test accuracy, and the final one"
    assert len(lines) == 3
    curves, final = ["EM (3)"] * 3, ["EM (3)"] * 2
    assert json.loads(tags.attributes("data-seen")[0]) == [curves, curves, final], "seeds and means"
    assert tags.attributes("data-blocked") == ["[]"], "plotly does nothing that the page's policy forbids"
    assert tags.attributes("data-fetched") == ["refused"]
    assert tags.attributes("data-fits") == ["true"], "nothing is wider than a narrow window"


@pytest.mark.parametrize("interactive", [True, False])
def test_nothing_in_a_runs_folder_becomes_an_element(tmp_path: Path, add_run: AddRun, interactive: bool) -> None:
    """Names of folders, routers, data, classes and machines are text."""
    element = "<img title=injected>"
    root = tmp_path / f'demo">{element}'
    told = {"data_title": element, "device": element, "git_commit": element, "class_names": [element, "b"]}
    for router in ("fm", element):
        add_run(root, router, 1, 0.9, confusion={"test": [[3, 1], [0, 4]]}, epochs=2, **told)
    found = Tags(page(tmp_path, root.name, interactive=interactive)).found
    assert found
    assert not [tag for tag, attributes in found if attributes.get("title") == "injected"]
