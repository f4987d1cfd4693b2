"""CapsBench: how capsule networks should reach agreement, answered with numbers anyone can rerun."""

__version__ = "0.1.0"
