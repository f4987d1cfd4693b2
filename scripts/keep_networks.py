"""make networks: train the networks that come with the package and put them into it.

Each becomes a folder DATA/ROUTER of src/capsbench/networks; its model.json gets the command and an interval.
"""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from capsbench.inference.classifier import NETWORKS
from capsbench.inference.files import DESCRIPTION, WEIGHTS
from capsbench.reports.statistics import Share
from capsbench.runs import finished_runs

SETTINGS = {
    "digits/fm": "data=digits router=fm arch.groups=2 trainer.max_epochs=60",
    "fashion_mnist/dynamic": "data=fashion_mnist router=dynamic",
    "fashion_mnist/fm": "data=fashion_mnist router=fm",
    "mnist/fm": "data=mnist router=fm",
}


def main(outputs: Path) -> None:
    """Train below `outputs`; a network that was trained is not trained again."""
    for name, settings in SETTINGS.items():
        command = f"capsbench train experiment=networks {settings} seed=1"
        subprocess.run([sys.executable, "-m", *shlex.split(command), f"output_dir={outputs / name}"], check=True)
        (run,) = finished_runs(outputs / name)
        description = json.loads((run.path / DESCRIPTION).read_text())
        examples, accuracy = description["run"]["examples"], description["run"]["accuracy"]
        right = Share(round(examples * accuracy), examples)
        description["run"] |= {"command": command, "interval": [round(right.low, 4), round(right.high, 4)]}
        folder = NETWORKS / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
        shutil.copyfile(run.path / WEIGHTS, folder / WEIGHTS)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("outputs/networks"))
