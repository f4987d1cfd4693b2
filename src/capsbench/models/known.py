"""Which classes a file may name."""

from types import ModuleType
from typing import Any

from torch import nn

from capsbench.routing.none import no_router


def classes_in(*places: ModuleType, kinds: tuple[type, ...] = (nn.Module,)) -> dict[str, Any]:
    """Find what may be made of a name in a file: the public classes of modules, and `no_router`.

    Args:
        places: modules.
        kinds: base classes of what is looked for.
    """
    found: dict[str, Any] = {"capsbench.routing.no_router": no_router}
    for place in places:
        for name in getattr(place, "__all__", dir(place)):
            made = getattr(place, name)
            if isinstance(made, type) and issubclass(made, kinds):
                found[f"{place.__name__}.{name}"] = made
    return found
