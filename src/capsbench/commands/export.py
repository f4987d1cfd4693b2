"""`capsbench export`: writes a trained network for other programs."""

import json
from pathlib import Path

from capsbench.commands.arguments import Arguments, parse_settings
from capsbench.commands.predict import load_network, place_of
from capsbench.commands.settings import Export
from capsbench.inference.export import BATCHES, ENDINGS, export
from capsbench.reports.formats import say


def main(arguments: Arguments) -> None:
    """Write the network that the settings name.

    Raises:
        ValueError: a setting is missing or wrong, or the folder holds no trained network.
        ExportError: the network cannot be exported, or the file answers otherwise than PyTorch.
    """
    settings = parse_settings(Export, arguments.settings)
    if settings.run is None:
        raise ValueError("run must be given: capsbench export run=RUN")
    if settings.format not in ENDINGS:
        raise ValueError(f"format must be one of {', '.join(ENDINGS)}, got {settings.format}")
    classifier = load_network(settings.run, arguments.config_dir)
    path = Path(settings.file) if settings.file else place_of(settings.run) / f"model{ENDINGS[settings.format]}"
    found = export(classifier, path, settings.format)
    for topic in ("input", "range", "preparation", "output"):
        say(f"{topic}: {found.about[topic]}")
    say(f"classes: {', '.join(json.loads(found.about['class_names']))}")
    if found.difference is None:
        say("not checked: onnxruntime is not installed; pip install 'capsbench[export]'")
    else:
        ran, sizes = "onnxruntime" if settings.format == "onnx" else "torch.export.load", ", ".join(map(str, BATCHES))
        say(
            f"checked in {ran}: for batches of {sizes}, answers differ from PyTorch's by {found.difference:.1g} at most"
        )
    say(str(found.path))
