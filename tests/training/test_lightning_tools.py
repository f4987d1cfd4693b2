"""Lightning's own tools on the network that a configuration builds."""

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.tuner import Tuner
from torch.utils.data import DataLoader, TensorDataset

from capsbench.data import ImageDataModule
from capsbench.launch.build import build_data, build_module
from capsbench.launch.config import Composer, open_configuration
from capsbench.training import ClassificationModule

SMALL = ("arch=capsnet_light", "arch.filters=4", "arch.groups=2", "data.subset=40", "data.test_subset=20")
SMALL += ("data.batch_size=10", "decoder=dense", "decoder.network.hidden=[8]", "optim=adam_halving")


@pytest.fixture(scope="module")
def config() -> Any:
    with open_configuration() as loader:
        return Composer(loader).compose(SMALL).config


@pytest.fixture
def data(config: Any) -> ImageDataModule:
    made = build_data(config)
    made.setup()
    return made


def trainer(folder: Path) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def test_predict_gives_class_capsules(config: Any, data: ImageDataModule, tmp_path: Path) -> None:
    module = build_module(config, data)
    (capsules,) = trainer(tmp_path).predict(module, datamodule=data)
    assert capsules.activations.shape == (20, 10)
    (batch,) = data.test_dataloader()
    (of_images,) = trainer(tmp_path).predict(module, DataLoader(batch.images, batch_size=20))
    assert of_images.poses.equal(capsules.poses)


def test_the_learning_rate_finder_sets_the_rate_that_is_trained_with(
    config: Any, data: ImageDataModule, tmp_path: Path
) -> None:
    module = build_module(config, data)
    found = Tuner(trainer(tmp_path)).lr_find(module, datamodule=data, num_training=4, update_attr=False)
    assert found is not None
    assert len(found.results["lr"]) > 0
    module.lr = 0.03
    assert {group["lr"] for group in module.configure_optimizers()["optimizer"].param_groups} == {0.03}


def test_a_module_is_loaded_from_its_checkpoint_and_no_other_class_is_made(
    config: Any, data: ImageDataModule, tmp_path: Path
) -> None:
    made, module = trainer(tmp_path), build_module(config, data)
    made.fit(module, datamodule=data)
    path = tmp_path / "x.ckpt"
    made.save_checkpoint(path)
    loaded = ClassificationModule.load_from_checkpoint(path)
    assert all(tensor.equal(module.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    (here,), (there,) = (made.test(each, datamodule=data, verbose=False) for each in (module, loaded))
    assert there == pytest.approx(here, rel=1e-4)
    saved = torch.load(path, weights_only=True)
    saved["recipe"]["loss"]["_target_"] = "os.system"
    torch.save(saved, path)
    with pytest.raises(ValueError, match=r"os\.system is no class of capsbench or PyTorch, and is not made"):
        ClassificationModule.load_from_checkpoint(path)
    del saved["recipe"]
    torch.save(saved, path)
    with pytest.raises(ValueError, match="does not say what the module was made with; give the arguments of"):
        ClassificationModule.load_from_checkpoint(path)


def test_plain_loaders_of_images_and_labels(config: Any, data: ImageDataModule, tmp_path: Path) -> None:
    examples = TensorDataset(torch.rand(20, *data.input_shape), torch.randint(0, 10, (20,)))
    module, made = build_module(config, data), trainer(tmp_path)
    made.fit(module, DataLoader(examples, batch_size=8), DataLoader(examples, batch_size=20))
    assert made.global_step == 3
    assert {"train/loss", "train/accuracy", "val/accuracy"} <= made.callback_metrics.keys()
