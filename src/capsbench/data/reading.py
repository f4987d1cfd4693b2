"""How files of a run's folder are read: as data of bounded size, from regular files alone."""

import functools
import reprlib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from capsbench.data.foreign import read_bytes

LONGEST = 4096
"""Characters of a text in it: as many as a path may have."""

Kind = TypeVar("Kind")
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""Of dataclasses that are made of what is read."""
Name = Annotated[str, Field(min_length=1, max_length=255)]
Text = Annotated[str, Field(max_length=1000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Version = Annotated[int, Field(ge=1)]


def read_json(path: Path) -> Any:
    """Read a file of JSON; its depth is bounded, too.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is no regular file, cannot be read, is too large, has a text that is too long, or is no JSON.
    """
    try:
        value = from_json(read_bytes(path))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(str(error).replace(f"{path} ", "it ", 1)) from error
    _check_lengths(value)
    return value


def checked(kind: type[Kind], value: Any) -> Kind:
    """Make a dataclass of JSON's types; its annotations say what is allowed.

    Raises:
        ValueError: a field is missing, unknown, of another type or out of its range.
    """
    # From JSON also strict types are made. mypy does not take a class for hashable.
    made: Kind = _adapter(kind).validate_json(to_json(value))  # type: ignore[arg-type]
    return made


@functools.cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)


def in_words(error: Exception) -> str:
    """Say in one line what is wrong with what was read."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}, got {reprlib.repr(first['input'])}"
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)


def _check_lengths(value: Any) -> None:
    if isinstance(value, str) and len(value) > LONGEST:
        raise ValueError(
            f"a text has {len(value):,} characters, at most {LONGEST:,} are allowed: {reprlib.repr(value)}"
        )
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for each in value:
            _check_lengths(each)
