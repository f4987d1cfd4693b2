"""What stands in a router's place where there are no capsules."""

from typing import Any, NoReturn


def no_router(**place: Any) -> NoReturn:
    """Refuse to be a router: the choice of networks without capsules.

    Raises:
        ValueError: always.
    """
    raise ValueError("a capsule layer needs a router, got no_router; take another router, or ResNet")
