"""Pictures are read as a viewer shows them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from capsbench.data import DataError
from capsbench.data.pictures import files_below, in_order, is_grey, natural, read_picture, resized

PIXELS = np.zeros((6, 8, 3), np.uint8)
PIXELS[:3] = (200, 100, 50)
PIXELS[:, :2] //= 2
TURNS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: np.rot90(p, -1),
}
"""How a camera stores what is upright, by the orientation that it notes."""


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["webp", "tiff", "png"])
def test_a_picture_is_turned_as_its_camera_says(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(TURNS[orientation](PIXELS)))
    stored.save(tmp_path / f"a.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(np.asarray(read_picture(tmp_path / f"a.{suffix}")), PIXELS)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tiff", "gif"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PIXELS).save(path, **({"quality": 95} if suffix in ("jpg", "webp") else {}))
    picture = read_picture(path)
    assert picture.mode == "RGB"
    assert np.abs(np.asarray(picture).astype(int) - PIXELS).mean() < 12


def test_the_first_of_several_frames(tmp_path: Path) -> None:
    frames = [Image.new("L", (4, 4), level) for level in (200, 10)]
    for suffix in ("gif", "tiff"):
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
        assert np.asarray(read_picture(tmp_path / f"a.{suffix}").convert("L")).mean() == pytest.approx(200, abs=1)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_grey_of_16_bits_is_scaled(tmp_path: Path, suffix: str) -> None:
    levels = np.array([[0, 8000, 50000, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / f"a.{suffix}")
    picture = read_picture(tmp_path / f"a.{suffix}")
    assert np.asarray(picture).tolist() == [[0, 31, 195, 255]]
    assert is_grey(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "1", "L", "RGB"])
def test_what_is_transparent_shows_the_background(tmp_path: Path, mode: str) -> None:
    """Also a palette, and a colour that counts as transparent, have it."""
    path = tmp_path / "a.png"
    if mode in ("LA", "RGBA"):
        levels = [255, 0] if mode == "LA" else [255, 255, 255, 0]
        Image.fromarray(np.tile(np.array(levels, np.uint8), (2, 2, 1))).save(path)
    else:
        Image.new(mode, (2, 2), 0).save(path, transparency=(0, 0, 0) if mode == "RGB" else 0)
    grey = mode in ("LA", "1", "L")
    assert read_picture(path).mode == ("L" if grey else "RGB")
    assert np.asarray(read_picture(path)).max() == 0
    assert np.asarray(read_picture(path, background="white")).min() == 255
    behind = np.asarray(read_picture(path, background="#336699").convert("RGB"))[0, 0].tolist()
    assert behind == pytest.approx([93] * 3 if grey else [0x33, 0x66, 0x99], abs=1)


def test_half_transparent(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (200, 100, 0, 128)).save(tmp_path / "a.png")
    assert np.asarray(read_picture(tmp_path / "a.png"))[0, 0].tolist() == [100, 50, 0]


def test_ink_becomes_light(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    red, green, blue = np.asarray(read_picture(tmp_path / "red.jpg"))[0, 0].tolist()
    assert red > 240
    assert max(green, blue) < 15


def test_what_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray(np.full((2, 2), 70000, np.int32)).save(tmp_path / "deep.tiff")
    Image.new("L", (5000, 2)).save(tmp_path / "long.png")
    (tmp_path / "text.png").write_text("mine")
    Image.new("L", (64, 64)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    for name, said in {
        "float.tiff": "mode F, whose black and white are not known",
        "deep.tiff": "mode I, whose black and white are not known",
        "long.png": "is 5000×2, at most 4096×4096",
        "text.png": "is not a picture in PNG, .* or GIF format",
        "cut.png": "is damaged",
        "nothing.png": "does not exist",
    }.items():
        with pytest.raises(DataError, match=said) as refused:
            read_picture(tmp_path / name)
        assert str(refused.value).startswith(str(tmp_path / name))
    Image.new("L", (2, 2)).save(tmp_path / "good.png")
    with pytest.raises(ValueError, match="unknown color specifier: 'plaid'"):
        read_picture(tmp_path / "good.png", background="plaid")


def test_another_size() -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (40, 40)))
    assert resized(stripes, (80, 40)) is stripes
    halved = np.asarray(resized(stripes, (40, 20)))
    assert abs(halved.astype(int) - 128).max() < 20  # no aliasing
    white = Image.new("L", (80, 40), 255)
    assert np.asarray(resized(white, (20, 20))).min() == 255
    assert np.asarray(resized(white, (20, 20), "crop")).min() == 255
    padded = np.asarray(resized(white, (20, 20), "pad"))
    assert (padded[:5].max(), padded[5:15].min(), padded[15:].max()) == (0, 255, 0)


def test_names_are_sorted_as_people_do() -> None:
    assert sorted(["class10", "class2", "b", "1", "01a", ""], key=natural) == ["", "1", "01a", "b", "class2", "class10"]


def test_an_order_of_files_does_not_change_that_of_pictures(tmp_path: Path) -> None:
    names = [["1.png", "01.png"], ["01.png", "1.png"]]
    assert [path.name for path in in_order(map(Path, names[0]))] == [
        path.name for path in in_order(map(Path, names[1]))
    ]


def test_a_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(os.fsencode(tmp_path) + b"/caf\xe9.png", format="PNG")
    with pytest.raises(DataError, match=r"caf\\xe9.png' is not in UTF-8; rename it"):
        files_below(tmp_path)
