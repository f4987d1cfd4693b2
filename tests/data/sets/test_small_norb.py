"""smallNORB: its cache, its crops and its viewpoints, on tiny files in the official form."""

import gzip
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

from capsbench.data import Augmentation, BatchKey, DataError, SmallNORB
from capsbench.data.files import DataFile, FileSet
from capsbench.data.randomness import Draw
from capsbench.data.sources import NORB_STEMS as STEMS
from capsbench.data.transforms import standardize

PAIRS = 36
PLACES = 17

Parts = dict[str, np.ndarray]


def matrix(array: np.ndarray) -> bytes:
    """An array in LeCun's binary matrix format."""
    magic = {np.dtype(np.uint8): 0x1E3D4C55, np.dtype(np.int32): 0x1E3D4C54}[array.dtype]
    sizes = [*array.shape, 1, 1, 1][: max(3, array.ndim)]
    return np.array([magic, array.ndim, *sizes], "<i4").tobytes() + array.tobytes()


def parts(seed: int) -> Parts:
    """Pairs of noise, the right image darker than the left; every azimuth and every elevation occurs."""
    random = np.random.default_rng(seed)
    dat = random.integers(128, 256, (PAIRS, 2, 96, 96), dtype=np.uint8)
    dat[:, 1] -= 128
    pair = np.arange(PAIRS)
    info = np.stack([pair % 10, pair % 9, 2 * (pair % 18), pair % 6], axis=1)
    return {"dat": dat, "cat": (pair % 5).astype(np.int32), "info": info.astype(np.int32)}


def make(data_dir: Path, contents: dict[str, bytes], *, digests: bool = True) -> type[SmallNORB]:
    """Write these files into data_dir/tiny and give the data set made of them."""
    folder = data_dir / "tiny"
    folder.mkdir(exist_ok=True)
    files = []
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() if digests else None
        files.append(DataFile(name, md5, (f"http://localhost:9/{name}.gz",), "0" * 32, 0.1))
    source = FileSet("tiny", tuple(files))
    return type("Tiny", (SmallNORB,), {"source": source, "__module__": __name__})


def good_contents() -> dict[str, bytes]:
    """All six files."""
    return {
        f"{stem}-{part}.mat": matrix(array)
        for seed, stem in enumerate(STEMS.values())
        for part, array in parts(seed).items()
    }


def name_of(part: str) -> str:
    """A file of the training split."""
    return f"{STEMS['train']}-{part}.mat"


@pytest.fixture
def tiny(tmp_path: Path) -> type[SmallNORB]:
    """A good data set of 36 + 36 pairs in tmp_path/tiny."""
    return make(tmp_path, good_contents())


def loaded(kind: type[SmallNORB], data_dir: Path, **options: Any) -> SmallNORB:
    """The data set after setup."""
    data = kind(data_dir=data_dir, **options)
    data.prepare_data()
    data.setup()
    return data


def caches(data_dir: Path) -> list[Path]:
    """The training split's cache, then the test split's."""
    return sorted((data_dir / "tiny").glob("*.npz"), reverse=True)


def remove_sources(data_dir: Path) -> None:
    """Leave only what the data set made itself."""
    for path in (data_dir / "tiny").glob("*.mat*"):
        path.unlink()


def assert_same(a: SmallNORB, b: SmallNORB) -> None:
    """Images, labels and viewpoints of both splits agree."""
    for split in STEMS:
        assert a.splits[split].images.equal(b.splits[split].images)
        assert a.splits[split].labels.equal(b.splits[split].labels)
        assert a.info[split].equal(b.info[split])


def test_both_cameras_are_examples(tiny: type[SmallNORB], tmp_path: Path) -> None:
    data = loaded(tiny, tmp_path)
    images, labels = data.splits["train"]
    assert images.shape == (2 * PAIRS, 1, 48, 48)
    assert (images[0::2] >= 128).all()
    assert (images[1::2] < 128).all()
    assert labels.tolist() == [pair % 5 for pair in range(PAIRS) for _ in range(2)]
    assert data.info["train"].tolist() == parts(0)["info"].repeat(2, axis=0).tolist()


def test_images_are_reduced_with_antialiasing(tiny: type[SmallNORB], tmp_path: Path) -> None:
    """Away from the border a pixel is the mean of 4×4 pixels under the triangle (1, 3, 3, 1) / 8."""
    data = loaded(tiny, tmp_path)
    weights = np.array([1, 3, 3, 1]) / 8
    for pair, row, column in ((0, 1, 1), (5, 20, 7), (35, 46, 46)):
        patch = parts(0)["dat"][pair, 0, 2 * row - 1 : 2 * row + 3, 2 * column - 1 : 2 * column + 3]
        found = data.splits["train"].images[2 * pair, 0, row, column].item()
        assert abs(found - weights @ patch @ weights) <= 0.5


def test_images_can_be_reduced_by_a_mean_that_is_not_rounded(tiny: type[SmallNORB], tmp_path: Path) -> None:
    data = loaded(tiny, tmp_path, resize_filter="mean")
    dat = parts(0)["dat"].reshape(2 * PAIRS, 1, 48, 2, 48, 2).astype(np.float64)
    assert (data.splits["train"].images.double().numpy() == dat.mean(axis=(3, 5))).all()


def test_each_filter_has_its_cache(tiny: type[SmallNORB], tmp_path: Path) -> None:
    rounded, exact = loaded(tiny, tmp_path), loaded(tiny, tmp_path, resize_filter="mean")
    remove_sources(tmp_path)
    assert_same(loaded(tiny, tmp_path), rounded)
    assert_same(loaded(tiny, tmp_path, resize_filter="mean"), exact)
    assert not exact.splits["train"].images.equal(rounded.splits["train"].images.half())


def test_pinned_names_of_caches(tiny: type[SmallNORB], tmp_path: Path) -> None:
    """Caches of earlier versions are found under these."""
    loaded(tiny, tmp_path)
    assert [path.name for path in caches(tmp_path)] == [
        "train-48x48-ca3e2c93ef2629f5375eccfb708db559.npz",
        "test-48x48-3092f0a08a0a2346447a60b5db150dd4.npz",
    ]


@pytest.mark.parametrize("resize_filter", ["antialias", "mean"])
def test_images_need_not_be_standardised(tiny: type[SmallNORB], tmp_path: Path, resize_filter: str) -> None:
    data = loaded(tiny, tmp_path, standardized=False, brightness=0.0, contrast=0.0, resize_filter=resize_filter)
    stored = data.splits["test"].images
    (batch,) = data.test_dataloader()
    assert batch.images.dtype == torch.float32
    assert batch.images.equal(stored[..., 8:40, 8:40].float() / 255)
    assert batch.targets[:, 0].equal(batch.images)
    train = data.batch("train", BatchKey(0, torch.arange(2 * PAIRS))).images
    assert 0 <= train.min() < train.max() <= 1


def test_without_brightness_a_change_of_contrast_keeps_the_mean(tiny: type[SmallNORB], tmp_path: Path) -> None:
    key = BatchKey(0, torch.arange(2 * PAIRS))
    plain, changed = (
        loaded(tiny, tmp_path, standardized=False, brightness=0.0, contrast=contrast).batch("train", key).images
        for contrast in (0.0, 0.5)
    )
    torch.testing.assert_close(changed.mean(dim=(1, 2, 3)), plain.mean(dim=(1, 2, 3)))
    assert not changed.isclose(plain).all()


def test_stand_ins_have_the_form_of_the_filter(tmp_path: Path) -> None:
    for resize_filter, kind in (("antialias", torch.uint8), ("mean", torch.float16)):
        data = SmallNORB(data_dir=tmp_path, absent="stand_in", resize_filter=resize_filter)
        data.setup()
        assert data.splits["train"].images.dtype == kind
        assert data.batch("train", BatchKey(0, torch.arange(3))).images.shape == (3, 1, 32, 32)


def test_compressed_files_give_the_same(tiny: type[SmallNORB], tmp_path: Path) -> None:
    plain = loaded(tiny, tmp_path)
    for path in caches(tmp_path):
        path.unlink()
    for path in (tmp_path / "tiny").glob("*.mat"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert_same(loaded(tiny, tmp_path), plain)


def test_a_flipped_bit_is_refused(tiny: type[SmallNORB], tmp_path: Path) -> None:
    path = tmp_path / "tiny" / name_of("dat")
    content = path.read_bytes()
    path.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    with pytest.raises(DataError, match=f"{path} is damaged or another file.*delete it"):
        tiny(data_dir=tmp_path).setup()
    assert not caches(tmp_path)


def test_the_cache_stands_in_for_the_files(tiny: type[SmallNORB], tmp_path: Path) -> None:
    first = loaded(tiny, tmp_path)
    remove_sources(tmp_path)
    assert_same(loaded(tiny, tmp_path), first)


def test_another_source_has_another_cache(tiny: type[SmallNORB], tmp_path: Path) -> None:
    loaded(tiny, tmp_path)
    brighter = make(tmp_path, {**good_contents(), name_of("dat"): matrix(np.full((PAIRS, 2, 96, 96), 255, np.uint8))})
    assert (loaded(brighter, tmp_path).splits["train"].images == 255).all()


def test_files_without_published_digests_are_told_apart_too(tmp_path: Path) -> None:
    loaded(make(tmp_path, good_contents(), digests=False), tmp_path)
    content = matrix(np.full((PAIRS, 2, 96, 96), 255, np.uint8))
    brighter = make(tmp_path, {**good_contents(), name_of("dat"): content}, digests=False)
    assert (loaded(brighter, tmp_path).splits["train"].images == 255).all()


def _flip_middle(path: Path) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def _other_shape(path: Path) -> None:
    with np.load(path) as archive:
        np.savez(path, **{**archive, "images": np.zeros((2 * PAIRS, 1, 32, 32), np.uint8)})


@pytest.mark.parametrize(
    "damage",
    [
        _flip_middle,
        _other_shape,
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"something else"),
        lambda path: np.savez(path, images=np.zeros(3)),
    ],
    ids=["flipped bit", "other shape", "truncated", "empty", "no archive", "other arrays"],
)
def test_a_damaged_cache_is_made_again(
    tiny: type[SmallNORB], tmp_path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    first = loaded(tiny, tmp_path)
    whole = caches(tmp_path)[0].read_bytes()
    damage(caches(tmp_path)[0])
    with caplog.at_level(logging.WARNING):
        assert_same(loaded(tiny, tmp_path), first)
    assert "is made again" in caplog.text
    assert len(caches(tmp_path)[0].read_bytes()) == len(whole)
    remove_sources(tmp_path)
    assert_same(loaded(tiny, tmp_path), first)


def test_an_interrupted_write_leaves_no_cache(
    tiny: type[SmallNORB], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(stream: Any, **arrays: np.ndarray) -> None:
        stream.write(b"PK\x03\x04 half of an archive")
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(np, "savez", half)
        killed.setattr(Path, "unlink", lambda *_, **__: None)  # kill -9 lets nobody clean up
        with pytest.raises(KeyboardInterrupt):
            tiny(data_dir=tmp_path).setup()
    assert list((tmp_path / "tiny").glob("*.tmp"))
    assert not caches(tmp_path)
    assert loaded(tiny, tmp_path).num_examples("train") == 2 * PAIRS
    assert len(caches(tmp_path)) == 2
    assert not list((tmp_path / "tiny").glob("*.tmp"))


@pytest.mark.parametrize("refused", ["lock", "write"])
def test_a_folder_that_cannot_be_written(
    tiny: type[SmallNORB],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refused: str,
) -> None:
    def read_only(*_: Any, **__: Any) -> None:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(*{"lock": (FileLock, "acquire"), "write": (np, "savez")}[refused], read_only)
    with caplog.at_level(logging.WARNING):
        data = loaded(tiny, tmp_path)
    assert data.num_examples("train") == 2 * PAIRS
    assert "Read-only file system" in caplog.text
    assert not caches(tmp_path)


def test_a_cache_is_read_where_nothing_can_be_written(
    tiny: type[SmallNORB], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = loaded(tiny, tmp_path)
    monkeypatch.setattr(FileLock, "acquire", lambda *_, **__: pytest.fail("a complete cache needs no lock"))
    assert_same(loaded(tiny, tmp_path), first)


def test_training_crops_are_windows_at_every_place(tiny: type[SmallNORB], tmp_path: Path) -> None:
    data = loaded(tiny, tmp_path, brightness=0.0, contrast=0.0)
    number = 4000
    image = data.splits["train"].images[:1]
    found = data.train_images(image.expand(number, -1, -1, -1), Draw(0, 0, torch.arange(number)))
    assert found.shape == (number, 1, 32, 32)
    every = standardize(image)[0, 0].unfold(0, 32, 1).unfold(1, 32, 1).reshape(PLACES**2, 32, 32)
    first_row_to_place = {window[0].numpy().tobytes(): place for place, window in enumerate(every)}
    places = [first_row_to_place[crop[0, 0].numpy().tobytes()] for crop in found]
    assert found[:, 0].equal(every[places])
    assert set(places) == set(range(PLACES**2))


def test_a_pair_is_one_image_of_two_channels(tiny: type[SmallNORB], tmp_path: Path) -> None:
    single, pairs = loaded(tiny, tmp_path), loaded(tiny, tmp_path, cameras="pair")
    assert (pairs.title, pairs.input_shape) == ("smallNORB (pairs)", (2, 32, 32))
    assert pairs.num_examples("train") == PAIRS
    assert pairs.splits["train"].images.flatten(0, 1).equal(single.splits["train"].images[:, 0])
    assert pairs.info["train"].repeat_interleave(2, dim=0).equal(single.info["train"])
    assert pairs.splits["train"].labels.repeat_interleave(2).equal(single.splits["train"].labels)


def test_both_images_of_a_pair_are_changed_alike(tiny: type[SmallNORB], tmp_path: Path) -> None:
    data = loaded(tiny, tmp_path, cameras="pair")
    same = data.splits["train"].images[:, :1].expand(-1, 2, -1, -1)
    changed = data.train_images(same, Draw(0, 0, torch.arange(PAIRS)))
    assert changed[:, 0].equal(changed[:, 1])
    assert data.batch("test", BatchKey(0, torch.arange(3))).images.shape == (3, 2, 32, 32)


def test_other_cameras_are_refused(tiny: type[SmallNORB], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.cameras must be separate or pair, got left"):
        tiny(data_dir=tmp_path, cameras="left")


def test_pinned_crops_and_contrasts(tiny: type[SmallNORB], tmp_path: Path) -> None:
    """Published numbers depend on these: the (row, column) of a crop, the factor of contrast, the offset."""
    data = loaded(tiny, tmp_path)
    images = standardize(data.splits["train"].images[:1])
    every = images[0, 0].unfold(0, 32, 1).unfold(1, 32, 1).reshape(PLACES**2, -1)
    scaled = (every - every.mean(1, keepdim=True)) / every.std(1, keepdim=True)
    found = data.train_images(
        data.splits["train"].images[:1].expand(3, -1, -1, -1), Draw(1, 2, torch.tensor([0, 1, 99]))
    )
    crops = found.flatten(1)
    like = (crops - crops.mean(1, keepdim=True)) / crops.std(1, keepdim=True)
    places = torch.cdist(like, scaled).argmin(dim=1)
    assert [divmod(place, PLACES) for place in places.tolist()] == [(15, 13), (9, 11), (13, 14)]
    assert (crops.std(1) / every[places].std(1)).tolist() == pytest.approx([0.63251, 0.97275, 1.13926], abs=1e-4)
    assert (crops.mean(1) - every[places].mean(1)).tolist() == pytest.approx([0.18564, -0.09769, -0.12883], abs=1e-4)


def test_the_test_crop_is_the_middle_of_the_standardised_image(tiny: type[SmallNORB], tmp_path: Path) -> None:
    data = loaded(tiny, tmp_path)
    batch = next(iter(data.test_dataloader()))
    assert batch.images.equal(standardize(data.splits["test"].images)[:, :, 8:40, 8:40])
    assert batch.labels.equal(data.splits["test"].labels)


def test_brightness_and_contrast(tiny: type[SmallNORB], tmp_path: Path) -> None:
    """Each image's offset and factor stay within their bounds, reach them, and leave everything else as it was."""
    plain, changed = loaded(tiny, tmp_path, brightness=0.0, contrast=0.0), loaded(tiny, tmp_path)
    images = plain.splits["train"].images.repeat(20, 1, 1, 1)
    draw = Draw(0, 0, torch.arange(len(images)))
    before, after = (data.train_images(images, draw).flatten(1) for data in (plain, changed))
    offset = after.mean(1) - before.mean(1)
    factor = after.std(1) / before.std(1)
    expected = (before - before.mean(1, keepdim=True)) * factor[:, None] + after.mean(1, keepdim=True)
    torch.testing.assert_close(after, expected, atol=1e-4, rtol=0)
    for found, low, high in ((offset, -0.25, 0.25), (factor, 0.5, 1.5)):
        assert low - 1e-4 <= found.min() < low + 0.05
        assert high - 0.05 < found.max() <= high + 1e-4
    assert abs(torch.corrcoef(torch.stack([offset, factor]))[0, 1]) < 0.1


def test_a_batch_is_a_function_of_seed_epoch_and_indices(tiny: type[SmallNORB], tmp_path: Path) -> None:
    indices = torch.tensor([3, 50, 8])
    batch = loaded(tiny, tmp_path, seed=1).batch("train", BatchKey(2, indices)).images
    again = loaded(tiny, tmp_path, seed=1)
    assert again.batch("train", BatchKey(2, indices)).images.equal(batch)
    assert again.batch("train", BatchKey(2, indices.flip(0))).images.flip(0).equal(batch)
    assert not again.batch("train", BatchKey(3, indices)).images.equal(batch)
    assert not loaded(tiny, tmp_path, seed=2).batch("train", BatchKey(2, indices)).images.equal(batch)


@pytest.mark.parametrize(
    ("viewpoints", "column", "shown", "title"),
    [
        ("novel_azimuth", 2, {30, 32, 34, 0, 2, 4}, "smallNORB (novel azimuth)"),
        ("novel_elevation", 1, {0, 1, 2}, "smallNORB (novel elevation)"),
    ],
)
def test_novel_viewpoints(
    tiny: type[SmallNORB], tmp_path: Path, viewpoints: str, column: int, shown: set[int], title: str
) -> None:
    every = loaded(tiny, tmp_path)
    data = loaded(tiny, tmp_path, viewpoints=viewpoints)
    assert data.title == title
    for split, wanted in (("train", shown), ("test", set(every.info["test"][:, column].tolist()) - shown)):
        rows = [row for row, info in enumerate(every.info[split].tolist()) if info[column] in wanted]
        assert set(data.info[split][:, column].tolist()) == wanted
        assert data.info[split].equal(every.info[split][rows])
        assert data.splits[split].images.equal(every.splits[split].images[rows])
        assert data.splits[split].labels.equal(every.splits[split].labels[rows])


@pytest.mark.parametrize("options", [{"val_fraction": 0.4}, {"subset": 30}, {"val_fraction": 0.6, "subset": 20}])
def test_viewpoints_follow_their_images(tiny: type[SmallNORB], tmp_path: Path, options: dict[str, Any]) -> None:
    every = loaded(tiny, tmp_path)
    known = {
        image.numpy().tobytes(): info
        for image, info in zip(every.splits["train"].images, every.info["train"].tolist(), strict=True)
    }
    data = loaded(tiny, tmp_path, **options)
    assert data.info.keys() == data.splits.keys()
    for name in data.splits.keys() - {"test"}:
        found = [known[image.numpy().tobytes()] for image in data.splits[name].images]
        assert data.info[name].tolist() == found


def test_toys_are_held_out_whole(tiny: type[SmallNORB], tmp_path: Path) -> None:
    data = loaded(tiny, tmp_path, val_fraction=0.2)
    held_out, rest = (set(data.info[name][:, 0].tolist()) for name in ("val", "train"))
    assert (held_out, rest) == ({8, 9}, set(range(8)))
    with pytest.raises(ValueError, match=r"must be 1 to 9 of the 10 toys of each class, got 0.01; 0.1 is one"):
        loaded(tiny, tmp_path, val_fraction=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"viewpoints": "novel"}, "data.viewpoints must be one of all, novel_azimuth, novel_elevation, got novel"),
        ({"brightness": -0.1}, "data.brightness must be finite and at least 0, got -0.1"),
        ({"brightness": float("inf")}, "data.brightness must be finite and at least 0, got inf"),
        ({"contrast": 1.0}, "data.contrast must be at least 0 and below 1, got 1.0"),
        ({"resize_filter": "area"}, "data.resize_filter must be antialias or mean, got area"),
        ({"augmentation": Augmentation(flip=True)}, "smallNORB does not accept data.augmentation: its own is set by"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmallNORB(**options)


def test_the_official_files_are_named_and_known() -> None:
    assert [file.name for file in SmallNORB.source.files] == [
        f"{stem}-{part}.mat" for stem in STEMS.values() for part in ("dat", "cat", "info")
    ]
    assert all(file.md5 and file.download_md5 for file in SmallNORB.source.files)
