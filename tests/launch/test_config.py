"""What is refused before anything is trained, and how a configuration is composed."""

import re
from pathlib import Path

import pytest

from capsbench.launch.config import Composer, open_configuration
from capsbench.launch.sweep import asked_again, plan


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("+lr=0.5", "there is no setting lr; There are: arch, callbacks, channels_last"),
        ("+callback=x", "there is no setting callback; did you mean callbacks"),
        ("loss=margin +loss.ghosts=true", "loss.ghosts is a setting of loss=centripetal; choose that, or leave it out"),
        ("+optim.lr=0.5", "there is no setting optim.lr; There are: decay, optimizer, scheduler, scheduler_interval"),
        ("+decoder.filters=3", "there is no setting decoder.filters; There are: loss_weight, network"),
        ("+trainer.callbacks=[]", "trainer.callbacks cannot be set: a run makes its own"),
        ("+trainer.logger=false", "trainer.logger cannot be set: a run makes its own"),
        ("optim.scheduler_interval=step", "optim.scheduler_interval has no effect without optim.scheduler"),
        ("loss=cross_entropy_shares loss.scale=2", "loss.scale has no effect with loss.normalize=true"),
        ("loss=cross_entropy_learned loss.normalize=true", "loss.scale has no effect with loss.normalize=true"),
        ("loss=cross_entropy loss.scale=big", "loss.scale must be a number such as 1.0, or learned, got big"),
        ("optim.decay=kernels", "optim.decay has no effect with optim.optimizer.weight_decay=0; set optim.decay=all"),
        ("decoder.loss_weight=0.1", "decoder.loss_weight has no effect with decoder=none"),
        ("arch.vote_norm=none arch.vote_gain=1", "arch.vote_gain has no effect with arch.vote_norm=none"),
        ("arch=resnet_capsnet arch.vote_norm=none arch.vote_gain=-1", "arch.vote_gain must be positive, got -1"),
        (
            "arch=matrix_capsnet arch.batch_norm_momentum=0.1",
            "arch.batch_norm_momentum has no effect with arch.vote_norm=none; set it to 0.01",
        ),
        (
            "arch=efficient_capsnet arch.norm=instance arch.batch_norm_momentum=0.1",
            "arch.batch_norm_momentum has no effect with arch.norm=instance; set it to 0.01",
        ),
        ("router=dynamic1 router.detach=true", "router.detach has no effect with router.iterations=1"),
        ("experiment=fig5 data=affnist", "AffNIST does not accept data.augmentation"),
        ("experiment=fig5 data=multi_mnist", "MultiMNIST does not accept data.augmentation"),
        (
            "experiment=table3 data=mnist",
            "MNIST does not accept data.places, which experiment=table3 sets; leave it out with ~data.places",
        ),
        ("experiment=table2 arch=capsnet", "CapsNet does not accept arch.shortcut, which experiment=table2 sets"),
        ("experiment=fig4_authors loss=spread", "SpreadLoss does not accept loss.reduction"),
        (
            "experiment=table3 decoder=none",
            "the chosen decoder has no network whose init could be set; set decoder.network=null, or choose another",
        ),
        (
            "experiment=table2_authors optim=adam",
            "the chosen optim has no scheduler whose milestones could be set; set optim.scheduler=null",
        ),
        ("data=affnist data.per_digit=4", "data.per_digit=4 has no effect with data.test_source=official"),
        (
            "data=mnist data.standardize_before_crop=true data.augmentation.crop_padding=4",
            "data.standardize_before_crop has no effect without data.standardized=true and data.augmentation.crop",
        ),
        (
            "data=svhn data.standardize_before_crop=true",
            "data.standardize_before_crop has no effect without data.stand",
        ),
        (
            "data=small_norb +data.standardize_before_crop=true",
            "data.standardize_before_crop has no effect without data.standardized=true and data.augmentation.crop",
        ),
        ("experiment=fig5 data=svhn data.standardize_before_crop=1", "data.standardize_before_crop must be true or"),
        ("data=affnist data.placement=6", "data.placement=6 has no effect with data.test_source=official"),
        ("router.output=squash", "router.normalize_pose has no effect with router.output=squash; set it to false"),
        ("~data.batch_size", "data.batch_size cannot be left out; set a value"),
        ("~optim.optimizer.lr", "optim.optimizer.lr cannot be left out; set a value"),
        ("experiment=table2 ~trainer.precision", "trainer.precision cannot be left out; set a value"),
        ("data.test_subset=all", "data.test_subset must be a whole number or null, got all"),
        ("channels_last=maybe", "channels_last must be true or false, got maybe"),
        ("arch.blocks=3", "arch.blocks must be a list such as [1, 1, 1], got 3"),
        ("checkpoint_minutes=-1", "checkpoint_minutes must be at least 0, got -1"),
        ("trainer.devices=2", "trainer.devices=2 needs trainer=ddp"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(setting: str, said: str) -> None:
    with open_configuration() as loader, pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        Composer(loader).compose(setting.split())


def test_a_number_may_also_be_learned() -> None:
    with open_configuration() as loader:
        composed = [Composer(loader).compose(["loss=cross_entropy", f"loss.scale={scale}"]) for scale in ("learned", 2)]
    assert [run.resolved["loss"]["scale"] for run in composed] == ["learned", 2]


def test_an_experiment_may_standardise_before_it_crops() -> None:
    with open_configuration() as loader:
        composer = Composer(loader)
        for name in ("svhn", "fashion_mnist", "cifar10", "cifar10_jpeg"):
            run = composer.compose(["experiment=fig5", f"data={name}", "data.standardize_before_crop=true"])
            assert run.resolved["data"]["standardize_before_crop"] is True


@pytest.mark.parametrize(
    "settings",
    [
        "experiment=table3 data=mnist ~data.places",
        "experiment=table3 decoder=none decoder.network=null decoder.loss_weight=0",
        "experiment=table2_authors optim=adam optim.scheduler=null optim.scheduler_interval=epoch",
        "experiment=fig5 data=affnist ~data.augmentation ~data.standardize_before_crop",
        "experiment=fig4_authors loss=spread ~loss.reduction",
    ],
)
def test_an_experiments_setting_can_be_left_out(settings: str) -> None:
    with open_configuration() as loader:
        Composer(loader).compose(settings.split())


def test_settings_of_a_class_may_be_added() -> None:
    with open_configuration() as loader:
        run = Composer(loader).compose(["+trainer.gradient_clip_val=1.0"])
    assert run.resolved["trainer"]["gradient_clip_val"] == 1.0


def test_a_run_is_composed_as_hydra_composes_it() -> None:
    import hydra
    from omegaconf import OmegaConf

    from capsbench.launch.config import CONF

    overrides = ["experiment=table3", "router=dynamic", "seed=2", "optim.optimizer.lr=0.5"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        theirs = OmegaConf.to_container(hydra.compose("train", overrides), resolve=True)
    with open_configuration() as loader:
        assert Composer(loader).compose(overrides).resolved == theirs


def test_a_users_own_choices(tmp_path: Path) -> None:
    (tmp_path / "router").mkdir()
    (tmp_path / "router" / "mine.yaml").write_text("defaults: [dynamic]\niterations: 7\n")
    with open_configuration(str(tmp_path)) as loader:
        (run,) = plan(loader, ["router=mine"])
    assert run.identity.router == "mine"
    assert run.identity.settings["router"]["iterations"] == 7


def test_a_directory_of_choices_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="--config-dir must be a directory"), open_configuration("nowhere"):
        pass


def folders(*overrides: str) -> list[str]:
    with open_configuration() as loader:
        return [str(run.folder) for run in plan(loader, overrides)]


def test_one_run_has_one_folder() -> None:
    assert folders("router=dynamic1") == folders("router=dynamic", "router.iterations=1")
    assert folders("arch=capsnet_light") == folders("arch=capsnet", "arch.filters=64", "arch.groups=8")
    assert folders("arch.vote_gain=1") == folders("arch.vote_gain=1.0")
    assert folders("trainer.precision=32") == folders("trainer.precision=32-true")
    generated = ("data=affnist", "data.test_source=generated")
    assert folders(*generated, "data.placement='6'") == folders(*generated, "data.placement=6")


def test_a_sweep_asks_for_each_run_once() -> None:
    assert len(folders("router=dynamic,dynamic1", "++router.iterations=1", "seed=1,2")) == 2


def test_the_same_settings_in_another_order_are_the_same_runs() -> None:
    assert set(folders("seed=1,2", "router=fm,em")) == set(folders("router=em,fm", "seed=2,1"))


def test_the_words_that_ask_for_the_same_runs_again(tmp_path: Path) -> None:
    words = ["router=fm,dynamic", "launcher=slurm", "hydra.launcher.timeout_min=600", "+hydra.launcher.qos=x", "seed=1"]
    with open_configuration() as loader:
        assert asked_again(loader, words) == "router=fm,dynamic seed=1"
        assert asked_again(loader, ["output_dir='/a/b'", "output_dir='a b'"]) == (
            "output_dir=/a/b 'output_dir='\"'\"'a b'\"'\"''"
        )
    with open_configuration(str(tmp_path)) as loader:
        assert asked_again(loader, ["gpus_per_run=1", "seed=1"]) == f"seed=1 --config-dir {tmp_path}"


def test_a_text_may_look_like_a_number() -> None:
    with open_configuration() as loader:
        composer = Composer(loader)
        words = ("data=arrays", "data.path=2025", "data.title=7")
        data = composer.compose(words).config.data
        assert (data.path, data.title) == ("2025", "7")
        for wrong, said in (
            ("data.title=[a,b]", r"data\.title must be a text, got \['a', 'b'\]"),
            ("data.title=true", r"data\.title must be a text, got True; quote"),
            ("+data.measured=all", r"there is no setting data\.measured; capsbench evaluate .* measures all images"),
            ("data.path=null", r"data\.path must be a file or folder, got null"),
        ):
            with pytest.raises(ValueError, match=said):
                composer.compose((*words, wrong))
