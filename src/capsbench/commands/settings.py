"""What each command is given: its actions, settings and switches. It imports nothing slow, so that help is quick."""

from dataclasses import dataclass
from typing import Any

from capsbench.commands.arguments import Command, setting
from capsbench.reports.paper import targets


@dataclass
class Report:
    """What to compare, and where to write it."""

    experiment: str | None = setting(None, "its name; null: all that have finished runs, and a page on all of them")
    as_published: bool = setting(False, "with experiment=table2: also its other systems, each with its own recipe")
    names: Any = setting(None, "sweeps to compare instead, by their names: [monday,tuesday]")
    baseline: str | None = setting(None, "the router that others are compared with; null: FM")
    show_test: bool = setting(False, "also show what capsbench evaluate measured of the test set")
    output_dir: str = setting("outputs", "where the runs are")
    publish: bool = setting(False, "also copy the small files to OUTPUT_DIR/published")
    readme: str | None = setting(None, "a Markdown file whose marked tables are filled from OUTPUT_DIR/published")


@dataclass
class Analyze:
    """What to look into, and how closely."""

    run: Any = setting(None, "a run's folder, a list of them, or a folder of runs; must be given")
    classes: Any = setting(None, "classes whose poses, or errors, to draw: [7], [cat], of two digits [7,0]; null: all")
    format: str = setting("npz", "of the file that poses writes: npz, or parquet (pip install 'capsbench[parquet]')")
    examples: int = setting(5000, "digits that R² is measured on, half of them to fit it")
    curve_examples: int = setting(1000, "images for each point of an accuracy curve")
    curve_steps: int = setting(13, "points of a curve, an odd number")
    data_dir: str | None = setting(None, "where data sets are now; null: CAPSBENCH_DATA, or where they were")


@dataclass
class Evaluate:
    """Which runs to measure, and on what."""

    run: Any = setting(None, "a run's folder, a list of them, or a folder of runs; must be given")
    split: str = setting(
        "test", "test; val, where a part of the training set was held out; train; with data=… also all"
    )
    data_dir: str | None = setting(None, "where data sets are now; null: CAPSBENCH_DATA, or where they were")


@dataclass
class Predict:
    """Which network says what which pictures show."""

    run: str | None = setting(None, "a finished run's folder, or a copy of its model.*; must be given")
    images: Any = setting(None, "a picture, a list of them, or a folder, with its subfolders; must be given")
    fit: str | None = setting(None, "how a picture gets the network's size: stretch, crop or pad; null: as in training")
    csv: str | None = setting(None, "also write a table with the scores of all classes to this file")
    sheet: str | None = setting(None, "also draw what the network saw of the first 200, in this PNG")


@dataclass
class Export:
    """Which network to write, and how."""

    run: str | None = setting(None, "a finished run's folder, or a copy of its model.*; must be given")
    format: str = setting("onnx", "onnx, for ONNX Runtime and others; or torch_export, for torch.export.load")
    file: str | None = setting(None, "where to write it; null: model.onnx or model.pt2 in the run's folder")


@dataclass
class Clean:
    """What may be deleted."""

    experiment: str | None = setting(None, "its name; null: all, and lists of names that point to nothing")
    weights: bool = setting(False, "also the weights of finished runs: analyze, evaluate and predict need them")
    failed: bool = setting(False, "also runs that failed, which reports count; those that train are left alone")
    output_dir: str = setting("outputs", "where the runs are")


@dataclass
class Dashboard:
    """Which comparisons to show, and where."""

    group: Any = setting(None, "EXPERIMENT/DATA/ARCH, or a list of them; null: those that have runs with logger=wandb")
    entity: str | None = setting(None, "user or team; null: WANDB_ENTITY, or your account's default")
    project: str | None = setting(None, "of the runs; null: WANDB_PROJECT, or capsbench")
    output_dir: str = setting("outputs", "where the runs are")


@dataclass
class Benchmark:
    """What to measure, and how often."""

    repetitions: int | None = setting(None, "of each way, in turn; null: 5, in table1 78, the authors' whole batches")
    batch: Any = setting(128, "examples in a batch; of layer and train also several: [1,8,32,128]")
    steps: int = setting(10, "training steps in a repetition")
    compile: str | None = setting(None, "also measure networks compiled in this mode of torch.compile")
    routers: list[str] = setting(["fm", "dynamic1", "dynamic", "em2"], "their names in conf/router")
    router: str | None = setting(None, "this one alone, instead of `routers`")
    systems: Any = setting(None, "their names in conf/system: [resnet,matrix_em]; null: all")
    data: list[str] = setting(["fashion_mnist"], "data sets whose image size and classes the systems get")
    arch: str | None = setting(None, "network of table1 or train, such as capsnet; null: all")
    children: int | None = setting(None, "of layer: one shape instead of those of the networks; null: 1152")
    parents: int | None = setting(None, "likewise; null: 10")
    dims: Any = setting(None, "likewise, dimensions of a child's and of a parent's pose; null: [8,16]")
    pages: str | None = setting(None, "of layer and train: memory pages, dear, cheap or both; null: as here")
    experiments: list[str] = setting(list(targets()), "tables and figures of the paper")
    output_dir: str = setting("outputs", "results go to OUTPUT_DIR/benchmarks")


COMMANDS = {
    "train": Command("train a capsule network, or with -m a sweep of them"),
    "status": Command(
        "show the state of each run that capsbench train -m with the same settings asks for",
        """  capsbench status experiment=table2
  capsbench status experiment=table3 router=fm,em seed=1,2 --json""",
        switches={"json": "print JSON: one object for each run"},
    ),
    "cancel": Command(
        "end the jobs and processes that train the runs of capsbench train -m with the same settings",
        """Jobs of Slurm leave the queue. Those that run, and the processes of a sweep on this machine, save first: they
have two minutes for it. Finished runs stay. capsbench train -m with the same settings continues the others.

  capsbench cancel experiment=table2
  capsbench cancel experiment=table3 router=fm,em seed=1,2""",
    ),
    "report": Command(
        "compare the finished runs of experiments",
        """It prints tables; beside the runs it writes report.html and report/ (table.md, .tex, .csv; figures).
The paper's numbers stand beside ours.

  capsbench report
  capsbench report experiment=table3 publish=true
  capsbench report experiment=demo baseline=dynamic
  capsbench report names=[monday,tuesday]
  capsbench report readme=README.md""",
        settings=Report,
    ),
    "analyze": Command(
        "look into trained runs: one, several, or all finished ones below a folder",
        """Below a folder, runs that an analysis does not fit (no decoder, no single shapes) are named and left out.

  capsbench analyze reconstructions run=DIR
  capsbench analyze reconstructions run=DIR classes=[7,0]
  capsbench analyze equivariance run=outputs/table3
  capsbench analyze errors run=DIR classes=[cat,dog]
  capsbench analyze poses run=DIR format=parquet""",
        actions={
            "reconstructions": "draw inputs and their reconstructions, and pose tours",
            "errors": "draw the test images that the network is most sure of and wrong about, by class",
            "poses": "write poses and activations of the test images as features: poses.npz or poses.parquet",
            "equivariance": "measure what poses tell of rotation, shear, scale and shift, and their effect on accuracy",
        },
        settings=Analyze,
    ),
    "evaluate": Command(
        "measure the final weights of trained runs on a split: one, several, or all finished ones below a folder",
        """A run with data.val_fraction does not read the test set until this command is told to. What it measures goes
to evaluation-SPLIT.json beside result.json; capsbench report shows it with show_test=true. Training images are those of
the first epoch.

With data=NAME, and any other setting of data, a network is measured on data that need not be its run's. It needs
model.json and model.safetensors alone. Images are prepared as the network's, also training images, which are not
augmented; classes are found by their names. split=all takes all images, also your own that are not divided. The
accuracy of each class is printed, and written to evaluation-DATA-SPLIT.json and .html with the confusion matrix.

  capsbench evaluate run=outputs/table2 split=test
  capsbench evaluate run=RUN data=image_folder data.path=newer split=all""",
        settings=Evaluate,
    ),
    "predict": Command(
        "say what pictures show, by the network of a finished run",
        """It needs model.json and model.safetensors of the run's folder, not its data. Pictures are PNG, JPEG, BMP,
WebP, TIFF or GIF, of any size.

  capsbench predict run=RUN images=photo.jpg
  capsbench predict run=RUN images=photos csv=answers.csv sheet=answers.png""",
        settings=Predict,
    ),
    "export": Command(
        "write the network of a finished run for other programs, for batches of any size",
        """It needs model.json and model.safetensors of the run's folder, not its data. The file takes pixels from 0 to
255 and scales them itself; it says so in its metadata. It is run against PyTorch before it is kept.

  capsbench export run=RUN
  capsbench export run=RUN format=torch_export file=network.pt2""",
        settings=Export,
    ),
    "data": Command(
        "list, fetch, check and show data sets",
        """`data=NAME` or `data=NAME,NAME` says which; other settings of data, such as data.test_source, hold too.

  capsbench data list
  capsbench data fetch data=svhn,small_norb
  capsbench data show data=affnist data.test_source=generated""",
        actions={
            "list": "show what there is and what is here; size, licence, source",
            "fetch": "download sets: atomically, checksums verified",
            "check": "read sets (without data=, all that are here) and compare with the known checksums",
            "show": "write outputs/data/NAME.png: samples as stored and as the network sees them",
        },
    ),
    "clean": Command(
        "show how large runs are, and delete what of them may go, after a question",
        """Results stay, and so do files that capsbench did not write. Without a terminal only --yes deletes.

  capsbench clean
  capsbench clean experiment=table3 weights=true --yes""",
        switches={"yes": "delete without a question"},
        settings=Clean,
    ),
    "dashboard": Command(
        "save the comparison on Weights & Biases: a workspace for each group of runs, and a report of all",
        """  capsbench dashboard --dry-run
  capsbench dashboard group=demo/digits/resnet_capsnet_small entity=my-team""",
        switches={"dry-run": "print what would be saved, as JSON; needs neither account nor network"},
        settings=Dashboard,
    ),
    "wandb-sweep": Command(
        "print a sweep file of Weights & Biases: the grid of capsbench train -m with the same settings",
        """The objective is validation accuracy, so that nothing is chosen by looking at the test set: without
data.val_fraction, a tenth of the training set is held out.

  capsbench wandb-sweep router=fm,dynamic seed=1,2 > sweep.yaml
  wandb sweep sweep.yaml""",
    ),
    "benchmark": Command(
        "measure how fast things are: alternatives in turn, several times",
        """  capsbench benchmark layer repetitions=9
  capsbench benchmark layer router=mine --config-dir my_conf
  capsbench benchmark layer children=512 parents=10 dims=[8,16] batch=[1,32,128] pages=both
  capsbench benchmark table1 arch=capsnet_light routers=[fm,mine] --config-dir my_conf""",
        actions={
            "contention": "time of a training step alone and beside busy processes, by how idle threads wait",
            "data": "images per second of data loading, against the usual dataset and workers",
            "layer": "time, memory and operations of capsule layers of any shape with each router, plain and fused",
            "paper": "the hours that each table and figure takes on this machine",
            "scaling": "time of capsule layers against the number of children, parents and examples",
            "systems": "parameters, operations, memory and time of each system",
            "table1": "milliseconds per batch of CapsNet with each router, as in the paper's table 1",
            "train": "images per second of training and inference, and the cost of Lightning's loop",
        },
        settings=Benchmark,
    ),
}
