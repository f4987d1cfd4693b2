"""Names of the files that a trained network is in."""

DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"
