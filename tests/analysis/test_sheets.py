"""Sheets of images: what is shown where."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from capsbench.analysis.sheets import Caption, Row, show_rows, write_contact_sheet, write_figure
from capsbench.data import Digits


def test_rows_have_their_images_names_and_captions() -> None:
    figure = Figure()
    images = torch.linspace(0, 1, 3)[:, None, None, None].expand(-1, 1, 4, 4)
    show_rows(figure, [Row("above", images), Row("below", images[:2], [Caption("1"), Caption("2", wrong=True)])], 3)
    above, below = figure.axes[:3], figure.axes[3:]
    assert [ax.images[0].get_array().max() for ax in above] == [0, 0.5, 1]
    assert [len(ax.images) for ax in below] == [1, 1, 0]
    assert [ax.get_title() for ax in below] == ["1", "2", ""]
    right, wrong = (ax.title.get_color() for ax in below[:2])
    assert right != wrong
    assert [row[0].texts[0].get_text() for row in (above, below)] == ["above", "below"]


def test_an_image_brighter_than_white_is_white(caplog: pytest.LogCaptureFixture) -> None:
    figure = Figure()
    show_rows(figure, [Row("", torch.full((1, 1, 4, 4), 1.5))], 1)
    assert figure.axes[0].images[0].get_array().max() == 1
    assert not caplog.records


def test_sheets_are_legible_on_white_and_on_black(tmp_path: Path) -> None:
    figure = Figure()
    show_rows(figure, [Row("", torch.zeros(2, 1, 4, 4), [Caption("1"), Caption("2", wrong=True)])], 2)
    write_figure(figure, tmp_path / "sheet.png", dpi=50)
    assert matplotlib.image.imread(tmp_path / "sheet.png")[0, 0, 3] == 0, "no background of its own"
    for ax in figure.axes:
        *linear, _ = [channel**2.2 for channel in to_rgba(ax.title.get_color())]
        luminance = float(np.dot([0.2126, 0.7152, 0.0722], linear))
        assert 1.05 / (luminance + 0.05) > 4, "contrast, as WCAG 2 defines it"
        assert (luminance + 0.05) / 0.05 > 4


def test_a_contact_sheet_of_digits(tmp_path: Path) -> None:
    data = Digits()
    data.setup()
    write_contact_sheet(data, tmp_path / "new" / "digits.png")
    assert matplotlib.image.imread(tmp_path / "new" / "digits.png").shape == (624, 1200, 4)


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    class Broken(Figure):
        def savefig(self, path: Path, **_: object) -> None:
            path.write_bytes(b"half")
            raise KeyboardInterrupt

    (tmp_path / "x.png").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_figure(Broken(), tmp_path / "x.png", dpi=50)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    assert (tmp_path / "x.png").read_text() == "old"
