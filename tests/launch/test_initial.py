"""Runs that begin with the weights of another run, and parts of networks that are not trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from capsbench.launch.build import build_data, build_module
from capsbench.launch.config import Composer, open_configuration
from capsbench.launch.initial import Source, begin_with, source_of
from capsbench.runs import Result
from capsbench.training import ClassificationModule, parameter_groups

SMALL = ("arch=capsnet_light", "arch.filters=8", "arch.groups=2")
FEW = (*SMALL, "data.subset=32", "data.batch_size=16", "data.test_subset=32", "trainer.max_epochs=1")
FEW += ("trainer.enable_progress_bar=false",)
DIGITS = tuple(map(str, range(10)))


def built(*overrides: str, classes: int | None = None) -> tuple[ClassificationModule, Any, Any]:
    with open_configuration() as loader:
        config = Composer(loader).compose(overrides).config
    data = build_data(config)
    data.num_classes = classes or data.num_classes
    return build_module(config, data), config, data


def weights_of(module: ClassificationModule) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_run_begins_with_another_and_leaves_frozen_parts_as_they_are(
    capsbench: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    capsbench("train", *FEW)
    (first,) = (path.parent for path in Path("outputs").rglob("result.json"))
    capsbench("train", *FEW, "seed=2", f"init_from={first / 'result.json'}", "freeze=conv")
    (second,) = (path.parent for path in Path("outputs").rglob("seed2-*/result.json"))
    told = f"5 of 5 tensors are those of {first}"
    assert f"initial weights: {told}" in capsys.readouterr().out
    result = Result.load(second)
    assert (result.begun_with, result.settings["freeze"]) == (told, ["conv"])
    assert result.settings["init_from"] == source_of(str(first)).digest
    before, after = weights_in(first), weights_in(second)
    assert after["model.conv.weight"].equal(before["model.conv.weight"])
    assert not after["model.class_capsules.transform.weight"].equal(before["model.class_capsules.transform.weight"])
    assert result.parameters < Result.load(first).parameters
    capsbench("train", *FEW, "trainer.max_epochs=2")
    assert f"this is another run than {first}, which is shorter and finished" in capsys.readouterr().out


def test_class_capsules_are_new_where_the_classes_are_others() -> None:
    theirs, _, _ = built(*SMALL, "seed=2", "decoder=dense", classes=7)
    module, config, data = built(*SMALL, "decoder=dense")
    before, given = weights_of(module), weights_of(theirs)
    told = begin_with(Source(Path("there"), given, tuple("abcdefg"), ""), module, config, data)
    new = {"model.class_capsules.transform.weight", "decoder.layers.0.weight"}
    assert told.startswith("9 of 11 tensors are those of there; new: ")
    assert told.endswith("(the classes are others)")
    for name, tensor in module.state_dict().items():
        assert tensor.equal(before[name] if name in new else given[name]), name


def test_as_many_classes_with_other_names_are_other_classes() -> None:
    theirs, _, _ = built(*SMALL, "seed=2")
    module, config, data = built(*SMALL)
    given = weights_of(theirs)
    assert "new: model.class_capsules" in begin_with(
        Source(Path("x"), given, tuple("abcdefghij"), ""), module, config, data
    )
    assert begin_with(Source(Path("x"), given, DIGITS, ""), module, config, data) == "5 of 5 tensors are those of x"


def test_weights_that_do_not_fit_are_refused() -> None:
    module, config, data = built(*SMALL)
    wider, _, _ = built(*SMALL, "arch.filters=16")
    with pytest.raises(ValueError, match=r"model\.conv\.weight is 16×1×9×9 there and 8×1×9×9 here; choose the arch"):
        begin_with(Source(Path("x"), weights_of(wider), DIGITS, ""), module, config, data)
    with pytest.raises(ValueError, match="init_from=x has no weights of this network; choose the arch of that run"):
        begin_with(Source(Path("x"), {"other": torch.ones(1)}, DIGITS, ""), module, config, data)


def test_a_folder_of_safetensors_is_a_source_and_each_weight_is_in_its_digest(tmp_path: Path) -> None:
    module, config, data = built(*SMALL)
    weights = {name.removeprefix("model."): tensor.contiguous() for name, tensor in weights_of(module).items()}
    for name in ("one", "two", "broken"):
        (tmp_path / name).mkdir()
    save_file(weights, tmp_path / "one" / "model.safetensors")
    other = weights | {"conv.bias": weights["conv.bias"] + 1}
    save_file(other, tmp_path / "two" / "model.safetensors")
    one, two = source_of(str(tmp_path / "one")), source_of(str(tmp_path / "two" / "model.safetensors"))
    assert one.digest != two.digest
    begin_with(two, module, config, data)
    assert module.state_dict()["model.conv.bias"].equal(other["conv.bias"])
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        source_of(str(tmp_path / "broken"))
    with pytest.raises(ValueError, match=r"init_from must be a finished run, .*; there are 0 finished runs below it"):
        source_of(str(tmp_path / "missing"))


def test_frozen_batch_norm_stays_in_evaluation_mode_and_is_not_optimised() -> None:
    module, _, _ = built("freeze=backbone", "arch=resnet_capsnet_small")
    module.train()
    means = [tensor.clone() for name, tensor in module.model.backbone.named_buffers() if "running_mean" in name]
    module(torch.rand(4, 1, 32, 32))
    assert means
    assert all(
        tensor.equal(mean)
        for mean, (name, tensor) in zip(
            means, [pair for pair in module.model.backbone.named_buffers() if "running_mean" in pair[0]], strict=True
        )
    )
    assert module.model.capsule_layers[0].training
    trained = [each for group in parameter_groups(module, module.loss, "all") for each in group["params"]]
    assert len(trained) == sum(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize(
    ("freeze", "cause"),
    [
        ("tail", "freeze must be a part of the network, conv, primary, class_capsules, or within one, got tail"),
        ("[conv,primary,class_capsules]", "leaves nothing of the network to train; name fewer parts"),
        ("3", "freeze must be a part of the network such as backbone, a list of these or null, got"),
        ("[]", "freeze must be a part of the network such as backbone, a list of these or null, got"),
    ],
)
def test_what_cannot_be_frozen_is_refused(freeze: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        built(*SMALL, f"freeze={freeze}")
