"""What is refused of a run's configuration before anything is trained."""

import math
from collections.abc import Mapping, Sequence

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf

from capsbench.launch.callbacks import check_callbacks
from capsbench.launch.errors import choice_of
from capsbench.launch.limits import check_limits
from capsbench.launch.ranges import check_ranges
from capsbench.launch.signatures import check_argument, takes
from capsbench.launch.words import check_words

NUMBERS_OR_NULL = {"data.subset": int, "data.test_subset": int, "arch.vote_gain": float}
NUMBERS_OR_NULL |= dict.fromkeys(("data.resize", "data.crop", "loss.steps"), int)
"""Settings that are null by default, and otherwise numbers."""
TEXTS = frozenset(f"data.{name}" for name in ("path", "title", "stands_in_for", "background", "cache"))
"""Settings that are texts, also where they look like a number."""
OR_WORD = {"loss.scale": "learned"}
"""Settings that are numbers by default, and may also be a word."""
SPELLINGS: Mapping[str, Mapping[str, int | str]] = {
    "trainer.precision": {"64": "64-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"},
    "trainer.max_epochs": {"None": -1},
    "data.placement": {"6": 6, "5": 5},
}
"""What else a value may be called: a run that is asked for in two ways is one run."""
KEYS: Mapping[str, frozenset[str]] = {
    "": frozenset(
        {"data", "arch", "router", "decoder", "loss", "optim", "trainer", "callbacks", "logger", "seed", "output_dir"}
        | {"data_dir", "name", "checkpoint_minutes", "channels_last", "compile", "retry_failed", "gpus_per_run", "wait"}
        | {"init_from", "freeze"}
    ),
    "decoder": frozenset({"network", "loss_weight"}),
    "optim": frozenset({"optimizer", "scheduler", "scheduler_interval", "decay"}),
}
"""The settings of those parts of a configuration that are no objects, whose arguments would be checked."""
OURS = {"trainer.callbacks": "callbacks=early_stopping", "trainer.logger": "logger=tensorboard"}
"""Arguments of the trainer that a run sets itself, with what sets them."""


def check_keys(config: DictConfig, defaults: DictConfig, own: DictConfig, sets: str) -> None:
    """Check that the parts of a run have the settings that their choices have: all of them, and no unknown ones.

    A setting that is left out would get its class's default, which may be another than that of conf/.

    Args:
        config: of the run.
        defaults: the same without the overrides of single settings.
        own: the same choices without the experiment and the system.
        sets: what sets more, in words: "experiment=table3".

    Raises:
        ValueError: a setting is left out, the experiment or the system sets one that the choice does not have, or the
            class of a part does not take one.
    """
    parts = ("data", "arch", "router", "decoder.network", "loss", "optim.optimizer", "optim.scheduler", "trainer")
    chosen = [name for name, settings in (config.get("callbacks") or {}).items() if isinstance(settings, DictConfig)]
    for part in (*parts, *(f"callbacks.{name}" for name in chosen)):
        node, set_by_files, known = (OmegaConf.select(source, part) or {} for source in (config, defaults, own))
        missing = [key for key in known if node and key not in node]
        if missing:
            raise ValueError(f"{part}.{missing[0]} cannot be left out; set a value")
        kind = str(known.get("_target_"))
        unknown = sorted(set(node) - set(known))
        foreign = [
            key
            for key in unknown
            if key in set_by_files and (kind.startswith("capsbench.") or not takes(part, key, node))
        ]
        if foreign:
            setting = f"{part}.{foreign[0]}"
            raise ValueError(
                f"{kind.rpartition('.')[2]} does not accept {setting}, which {sets} sets; leave it "
                f"out with ~{setting}, or choose another {part.partition('.')[0]} or experiment"
            )
        for key in unknown:
            check_argument(part, key, node)


def check(config: DictConfig, defaults: DictConfig, overrides: Sequence[Override]) -> None:
    """Check that every setting of a run is valid and has an effect.

    Args:
        config: of the run; where a value has several names it gets the usual one.
        defaults: the same without the overrides of single settings.
        overrides: of single settings.

    Raises:
        ValueError: one is not.
    """
    _check_keys(config)
    for override in overrides:
        if not override.is_hydra_override():
            _check_type(override.key_or_group, config, defaults)
    for key, names in SPELLINGS.items():
        if (value := str(OmegaConf.select(config, key))) in names:
            OmegaConf.update(config, key, names[value])
    check_words(config)
    check_ranges(config)
    check_callbacks(config)
    _check_weights(config)
    _check_effects(config)
    _check_data_effects(config.data, defaults.data)
    _check_trainer(config)
    for key in ("output_dir", "data_dir"):
        if not isinstance(config[key], str) or not config[key]:
            raise ValueError(f"{key} must be a folder, got {config[key]!r}; leave it out to have {defaults[key]}")


def _check_keys(config: DictConfig) -> None:
    for part, allowed in KEYS.items():
        for key in map(str, config[part] if part else config):
            if key not in allowed:
                raise ValueError(f"there is no setting {part}{'.' if part else ''}{key}; {choice_of(key, allowed)}")
    if "measured" in config.data and str(config.data.get("_target_")).startswith("capsbench."):
        raise ValueError(
            "there is no setting data.measured; capsbench evaluate run=RUN data=NAME split=all measures all images"
        )
    for key, choice in OURS.items():
        if OmegaConf.select(config, key) is not None:
            group = choice.partition("=")[0]
            raise ValueError(
                f"{key} cannot be set: a run makes its own; choose one such as {choice}, or write "
                f"DIR/{group}/mine.yaml and give --config-dir DIR {group}=mine"
            )


def _check_weights(config: DictConfig) -> None:
    """Check what a run begins with and what it leaves as it is; parts to freeze become a sorted list."""
    if config.init_from is not None and (not isinstance(config.init_from, str) or not config.init_from):
        raise ValueError(f"init_from must be the folder of a run, or null, got {config.init_from!r}")
    parts = config.freeze
    if parts is None:
        return
    parts = [parts] if isinstance(parts, str) else parts
    if not isinstance(parts, list | ListConfig) or not parts or not all(isinstance(p, str) and p for p in parts):
        raise ValueError(f"freeze must be a part of the network such as backbone, a list of these or null, got {parts}")
    config.freeze = sorted(set(parts))


def _check_type(key: str, config: DictConfig, defaults: DictConfig) -> None:
    """Compare what was set with the type of the default that it replaces."""
    default, value = OmegaConf.select(defaults, key), OmegaConf.select(config, key)
    if value is None and key == "data.path":
        raise ValueError("data.path must be a file or folder, got null")
    if value is None or key == "seed" or value == OR_WORD.get(key):  # an identity checks its seed
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if key in NUMBERS_OR_NULL:
        if not is_number or (NUMBERS_OR_NULL[key] is int and not isinstance(value, int)):
            kind = "whole number" if NUMBERS_OR_NULL[key] is int else "number"
            raise ValueError(f"{key} must be a {kind} or null, got {value}")
        OmegaConf.update(config, key, NUMBERS_OR_NULL[key](value))
    elif key in TEXTS:
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise ValueError(f"{key} must be a text, got {value}; quote what looks like a number: {key}=\"'1.5'\"")
        OmegaConf.update(config, key, str(value))
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{key} must be true or false, got {value}")
    elif isinstance(default, int | float) and not is_number:
        word = f", or {OR_WORD[key]}" if key in OR_WORD else ""
        raise ValueError(f"{key} must be a number such as {default}{word}, got {value}")
    elif isinstance(default, float):
        OmegaConf.update(config, key, float(value))
    elif isinstance(default, int) and not isinstance(value, int):
        raise ValueError(f"{key} must be a whole number such as {default}, got {value}")
    elif isinstance(default, ListConfig) and not isinstance(value, ListConfig):
        raise ValueError(f"{key} must be a list such as {default}, got {value}")


def _check_effects(config: DictConfig) -> None:
    """Refuse settings that change nothing: runs that differ in them would be the same run twice."""
    arch, decoder, loss, optim, router = config.arch, config.decoder, config.loss, config.optim, config.router
    for part in ("decoder.network", "optim.scheduler"):
        node, (group, _, what) = OmegaConf.select(config, part), part.partition(".")
        if node is not None and "_target_" not in node:  # an experiment's settings of what is not there
            raise ValueError(
                f"the chosen {group} has no {what} whose {next(iter(node), 'settings')} could be set; "
                f"set {part}=null, or choose another {group}"
            )
    if arch.get("vote_norm") == "none" and arch.get("vote_gain") is not None:
        raise ValueError("arch.vote_gain has no effect with arch.vote_norm=none; set arch.vote_gain=null")
    unused = {"MatrixCapsNet": ("vote_norm", "none"), "EfficientCapsNet": ("norm", "instance")}
    key, value = unused.get(str(arch.get("_target_")).rpartition(".")[2], ("norm", None))
    if value is not None and arch.get(key) == value and arch.get("batch_norm_momentum", 0.01) != 0.01:
        raise ValueError(f"arch.batch_norm_momentum has no effect with arch.{key}={value}; set it to 0.01")
    if decoder.network is None and decoder.loss_weight:
        raise ValueError("decoder.loss_weight has no effect with decoder=none; choose decoder=deconv or decoder=dense")
    if loss.get("normalize") and loss.get("scale", 1) != 1:
        raise ValueError("loss.scale has no effect with loss.normalize=true; leave one of them out")
    if loss.get("schedule") == "linear" and loss.get("steps") is not None:
        raise ValueError("loss.steps has no effect with loss.schedule=linear; leave it out")
    if optim.get("decay") == "kernels" and optim.optimizer.get("weight_decay") == 0:
        raise ValueError("optim.decay has no effect with optim.optimizer.weight_decay=0; set optim.decay=all")
    if optim.scheduler is None and optim.scheduler_interval != "epoch":
        raise ValueError("optim.scheduler_interval has no effect without optim.scheduler; leave it out")
    if router.get("output") == "squash" and router.get("normalize_pose"):
        raise ValueError("router.normalize_pose has no effect with router.output=squash; set it to false")
    if router.get("detach") and router.get("iterations") == 1:
        raise ValueError("router.detach has no effect with router.iterations=1; leave it out")


def _check_data_effects(data: DictConfig, defaults: DictConfig) -> None:
    """Refuse here what a data set would refuse itself, so that no folder is made for such a run."""
    if "augmentation" in data and data.augmentation is None:
        raise ValueError("data.augmentation must not be null; crop_padding=0 and flip=false turn it off")
    if "augmentation" in data and "_target_" not in data.augmentation:  # of an experiment: the set itself has none
        kind = str(data.get("_target_")).rpartition(".")[2]
        raise ValueError(f"{kind} does not accept data.augmentation; choose another data set or experiment")
    if data.get("class_weights") is not None:
        from capsbench.data.weights import check_weights  # late: it needs PyTorch

        check_weights(data.class_weights)
    augmentation = data.get("augmentation") or {}
    is_cropped = bool(augmentation.get("crop_padding")) or data.get("crop") is not None
    if data.get("standardize_before_crop") and not (data.get("standardized") and is_cropped):
        raise ValueError(
            "data.standardize_before_crop has no effect without data.standardized=true and "
            "data.augmentation.crop_padding or data.crop; leave it out"
        )
    if data.get("standardized") and augmentation.get("brightness"):
        raise ValueError(
            "data.augmentation.brightness has no effect with data.standardized=true, which takes the mean of each "
            "image away; leave it out"
        )
    if data.get("test_source") == "official":
        for key in ("per_digit", "placement"):
            if data[key] != defaults[key]:
                raise ValueError(f"data.{key}={data[key]} has no effect with data.test_source=official; leave it out")


def _check_trainer(config: DictConfig) -> None:
    if config.checkpoint_minutes is None or not 0 <= config.checkpoint_minutes < math.inf:
        raise ValueError(f"checkpoint_minutes must be at least 0, got {config.checkpoint_minutes}")
    check_limits(config)
    if config.trainer.get("val_check_interval") is not None:
        raise ValueError(
            "trainer.val_check_interval cannot be set: a run is evaluated at the end of epochs, which its history "
            "lists; leave it out, or set trainer.check_val_every_n_epoch"
        )
    for key in ("check_val_every_n_epoch", "accumulate_grad_batches"):
        number = config.trainer.get(key, 1)
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"trainer.{key} must be a whole number of at least 1, got {number}")
