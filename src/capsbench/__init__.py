"""CapsBench: how capsule networks should reach agreement, answered with numbers anyone can rerun."""
