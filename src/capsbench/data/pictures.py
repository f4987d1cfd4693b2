"""Files of pictures, read as a viewer shows them."""

import os
import re
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageColor, ImageOps

from capsbench.data.files import DataError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
"""Of what is read, whatever a file is called: Pillow would run Ghostscript for a file of PostScript."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif")
LARGEST_SIDE = 4096
"""Pixels in either direction: a small file of more would fill the memory."""
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of 16-bit grey."""
GREY = ("1", "L", "LA", *DEEP)
"""Pillow's modes without colour."""
UNKNOWN = "whose black and white are not known; save it as grey of 8 or 16 bits, or as RGB"
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")

PASSED_OVER = re.compile(r"\.|__MACOSX$|Thumbs\.db$|desktop\.ini$", re.IGNORECASE)
"""Names of what systems leave in folders."""

Fit = Literal["stretch", "crop", "pad"]
"""How a picture becomes as large as wanted: change its proportions, cut off its edges, or add black ones."""


def read_picture(path: str | PathLike[str], background: str = "black") -> Image.Image:
    """Read a file as a viewer shows it: turned as its EXIF orientation says, in 8 bits, without transparency.

    Of several frames it is the first. Colour profiles are not applied.

    Args:
        path: of a PNG, JPEG, BMP, WebP, TIFF or GIF file.
        background: the colour behind transparent parts: a name, or as in "#ff8800".

    Returns:
        A grey picture, of Pillow's mode L, or one in colour, RGB.

    Raises:
        DataError: there is no such file, it is no such picture, is damaged or too large, or its pixels are not 8-bit
            colours or grey of 8 or 16 bits.
        ValueError: there is no such colour.
    """
    path = Path(path)
    ImageColor.getrgb(background)  # a wrong colour is no damage to the file
    with open_picture(path) as image:
        try:
            image.load()
            return as_shown(image, background)
        except DataError:
            raise
        except Exception as error:  # each format has errors of its own
            raise DataError(f"{path} is damaged: {error}") from error


def as_shown(image: Image.Image, background: str = "black") -> Image.Image:
    """Turn a picture as its EXIF orientation says, and give it 8 bits and no transparency; see `read_picture`.

    Raises:
        ValueError: black and white of its pixels are not known, or there is no such colour.
    """
    if image.mode not in (*GREY, *COLOUR):
        raise ValueError(f"pixels of Pillow's mode {image.mode}, {UNKNOWN}")
    upright = ImageOps.exif_transpose(image)
    return _opaque(upright, (*ImageColor.getrgb(background)[:3], 255))


def open_picture(path: Path) -> Image.Image:
    """Open a file whose pixels can be read; it has yet to be decoded.

    Raises:
        DataError: see `read_picture`.
    """
    try:
        image = Image.open(path, formats=FORMATS)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except Exception as error:  # each format has errors of its own, and an image of too many pixels, too
        known = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise DataError(f"{path} is not a picture in {known} format: {error}") from error
    if image.width > LARGEST_SIDE or image.height > LARGEST_SIDE:
        image.close()
        raise DataError(f"{path} is {image.width}×{image.height}, at most {LARGEST_SIDE}×{LARGEST_SIDE} can be read")
    if image.mode not in (*GREY, *COLOUR):
        image.close()
        raise DataError(f"{path} has pixels of Pillow's mode {image.mode}, {UNKNOWN}")
    return image


def is_grey(path: Path) -> bool:
    """Tell whether a file holds no colours.

    Raises:
        DataError: see `read_picture`.
    """
    with open_picture(path) as image:
        return image.mode in GREY


def _opaque(image: Image.Image, background: tuple[int, int, int, int]) -> Image.Image:
    if image.mode in DEEP:
        return Image.fromarray(as_bytes_of_16_bits(np.asarray(image)))
    grey = image.mode in GREY
    if image.has_transparency_data:
        behind = Image.new("RGBA", image.size, background)
        image = Image.alpha_composite(behind, image.convert("RGBA"))
    return image.convert("L" if grey else "RGB")


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort names by the numbers in them: key of `sorted`.

    >>> sorted(["b", "10", "2"], key=natural)
    ['2', '10', 'b']
    """
    parts = [part for part in re.split(r"(\d+)", name) if part]
    return [(False, int(part), "") if part.isdecimal() else (True, 0, part) for part in parts]


def as_bytes_of_16_bits(pixels: np.ndarray) -> np.ndarray:
    """Scale pixels from 0…65535 to 0…255."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def files_below(folder: Path) -> list[Path]:
    """List the files in a folder and in those below it, as people sort them, without what systems leave there."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not PASSED_OVER.match(name)]
        found += [Path(place, name) for name in names if not PASSED_OVER.match(name)]
    return in_order(found)


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Sort paths as people sort names; the order that a file system lists them in does not count.

    Raises:
        DataError: a name is not in UTF-8.
    """
    found = {str(path): path for path in paths}
    for name in found:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"the name {os.fsencode(name)!r} is not in UTF-8; rename it") from error
    return [found[name] for name in sorted(found, key=lambda name: (natural(name), name))]


def is_named_as_picture(path: Path) -> bool:
    """Tell whether this is a file that ends like a picture."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def resized(image: Image.Image, size: tuple[int, int], fit: Fit = "stretch") -> Image.Image:
    """Give a picture another size, without aliasing.

    Args:
        image: of mode L or RGB.
        size: (width, height) in pixels.
        fit: "stretch", "crop" or "pad", see `Fit`.

    Raises:
        ValueError: fit is none of them.
    """
    if image.size == size:
        return image
    if fit == "stretch":
        return image.resize(size, Image.Resampling.BILINEAR)
    if fit == "crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    if fit == "pad":
        return ImageOps.pad(image, size, Image.Resampling.BILINEAR)
    raise ValueError(f"fit must be one of {', '.join(get_args(Fit))}, got {fit}")


def as_bytes(image: Image.Image, channels: int) -> np.ndarray:
    """Give the pixels of a picture as bytes (channels, height, width), with 1 channel as grey, with 3 as RGB."""
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
