"""Reading labelled images: IDX files, an image folder, the digits that scikit-learn carries.

Each reader takes a directory and returns verified `DigitData` with the parts "train" and "test", or raises
`BadSource`. Choosing among them and downloading is in `mnist_pipeline.acquire`.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mnist_pipeline.ml import idx
from mnist_pipeline.ml.digits import SIDE, DigitData, LabeledImages, Origin, Preparation
from mnist_pipeline.ml.published import DIGIT_NAMES, MNIST, PUBLISHED, Published
from mnist_pipeline.ml.split import split_off

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"}
TEST_SHARE = 0.2


class BadSource(ValueError):
    """Data that must not be trained on; the message says what, where and what to do."""


def read_published(directory: Path, dataset: str) -> DigitData:
    """MNIST or its kin from IDX files that match the published digests. Raises BadSource or BadIdx."""
    published = PUBLISHED[dataset]
    data = _read_idx(directory, published, verify=True)
    origin = Origin(
        dataset,
        f"IDX files in {directory}, verified against the published digests",
        published.class_names,
        published.preparation,
    )
    return DigitData(data, origin)


def read_idx_directory(directory: Path, preparation: Preparation) -> DigitData:
    """Somebody's own IDX files, named as MNIST's; class names from classes.txt, a line each, or 0 to 9."""
    listed = directory / "classes.txt"
    names = tuple(listed.read_text().split("\n")) if listed.is_file() else DIGIT_NAMES
    names = tuple(name.strip() for name in names if name.strip())
    if not names:
        raise BadSource(f"{listed} is empty: write one class name a line, in the order of the labels")
    own = Published("idx", MNIST.files, (), names, preparation)
    parts = _read_idx(directory, own, verify=False)
    return DigitData(parts, Origin("idx", f"own IDX files in {directory}, not verified", names, preparation))


def read_image_folder(directory: Path, preparation: Preparation) -> DigitData:
    """Images in one sub-folder a class, with or without folders train/ and test/ above the classes.

    Without them a stratified fifth is put aside for the test. Every image goes through the front door.
    """
    split = all((directory / part).is_dir() for part in ("train", "test"))
    roots = {part: directory / part for part in ("train", "test")} if split else {"train": directory}
    names = _class_folders(roots["train"])
    if split and (unknown := set(_class_folders(roots["test"])) - set(names)):
        raise BadSource(f"{roots['test']} has classes that {roots['train']} has not: {', '.join(sorted(unknown))}")
    parts = {part: _read_classes(root, names, preparation) for part, root in roots.items()}
    if empty := [name for i, name in enumerate(names) if i not in parts["train"].labels]:
        raise BadSource(f"{roots['train']} has class folders without images: {', '.join(empty)}; fill or remove them")
    if not split:
        parts["train"], parts["test"] = split_off(parts["train"], TEST_SHARE, seed=0)
    for part, images in parts.items():
        check_labels(images.labels, len(names), f"{directory} ({part})")
    return DigitData(parts, Origin("images", f"image folder {directory}", names, preparation))


def read_embedded() -> DigitData:
    """The 1,797 handwritten 8×8 digits of scikit-learn (Alpaydin and Kaynak, 1998), drawn at MNIST's size."""
    from sklearn.datasets import load_digits

    small = load_digits()
    images = np.stack([_at_mnist_size(image) for image in small.images])
    train, test = split_off(LabeledImages(images, small.target.astype(np.uint8)), TEST_SHARE, seed=0)
    source = f"the {len(images):,} embedded digits of scikit-learn, 8×8 drawn at 28×28: not the full MNIST"
    return DigitData({"train": train, "test": test}, Origin("embedded", source, DIGIT_NAMES))


def check_labels(labels: np.ndarray, classes: int, where: str) -> None:
    """Refuse labels outside 0..classes-1, and data of fewer than two classes, which teaches nothing."""
    if len(labels) == 0:
        raise BadSource(f"{where} holds no images: check the path")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise BadSource(
            f"{where}: label {labels[wrong[0]]} at position {wrong[0]:,} ({len(wrong):,} such labels); "
            f"there are {classes} classes, so labels are 0 to {classes - 1}"
        )
    if len(np.unique(labels)) < 2:
        raise BadSource(f"{where} holds one class only ({labels[0]}): a classifier needs at least two")


def _read_idx(directory: Path, published: Published, *, verify: bool) -> dict[str, LabeledImages]:
    if not directory.is_dir():
        raise BadSource(f"there is no folder {directory}: set MNIST_DATA_DIR to the folder of the IDX files")
    with ThreadPoolExecutor() as pool:
        arrays = list(pool.map(lambda file: _read_file(directory, published, file, verify), published.files))
    by_role = {role: array for (role, _, _), array in zip(published.files, arrays, strict=True)}
    return {part: _pair(by_role, part, directory, published) for part in ("train", "test")}


def _pair(arrays: dict[str, np.ndarray], part: str, directory: Path, published: Published) -> LabeledImages:
    images, labels = arrays[f"{part} images"], arrays[f"{part} labels"]
    labels = labels[:, 0] if labels.ndim == 2 else labels  # QMNIST: the class is the first of eight columns
    where = f"{part} set in {directory}"
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or images.dtype != np.uint8 or labels.ndim != 1:
        raise BadSource(f"{where}: images of shape {images.shape[1:]}, expected ({SIDE}, {SIDE}) and one label each")
    if len(images) != len(labels):
        raise BadSource(f"{where}: {len(images):,} images but {len(labels):,} labels; fetch both files again")
    check_labels(labels, len(published.class_names), where)
    return LabeledImages(images, labels.astype(np.uint8))


def _read_file(directory: Path, published: Published, file: tuple[str, str, str], verify: bool) -> np.ndarray:
    role, archive, md5 = file
    path = _find(directory, archive)
    packed = path.read_bytes()
    data = idx.unpack(packed, str(path))
    array = idx.parse(data, str(path))
    if verify:
        _verify(path, packed, data, md5, published.md5_unpacked.get(role), published.name)
    return array


def _verify(path: Path, packed: bytes, data: bytes, md5: str, md5_unpacked: str | None, dataset: str) -> None:
    """One of the two published digests must match: that of the archive, or of what is in it."""
    content = data if md5_unpacked else packed
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != (md5_unpacked or md5):
        unpacked = "" if md5_unpacked else " (only the .gz archives have one, so unpacked files cannot be verified)"
        raise BadSource(
            f"{path} is a whole IDX file, but its md5 is not the one published for {dataset}{unpacked}: it was changed "
            f"or is another data set. Fetch it again, or set MNIST_DATASET=idx to use it unverified"
        )


def _find(directory: Path, archive: str) -> Path:
    """The file under any of its usual names: packed or not, with a dot or a dash before idx."""
    plain = archive.removesuffix(".gz")
    dotted = plain.replace("-idx", ".idx")
    candidates = [directory / name for name in (archive, plain, f"{dotted}.gz", dotted)]
    for path in candidates:
        if path.is_file():
            return path
    raise BadSource(
        f"{directory} has no {archive} (nor {plain}): all four IDX files must be there. "
        f"For an image folder set MNIST_DATASET=images"
    )


def has_idx_files(directory: Path) -> bool:
    """Whether this is a folder that looks like one of IDX files, whole or not."""
    return directory.is_dir() and any("idx" in path.name for path in directory.iterdir())


def _class_folders(directory: Path) -> tuple[str, ...]:
    if not directory.is_dir():
        raise BadSource(f"there is no folder {directory}: set MNIST_DATA_DIR to the image folder")
    names = sorted(path.name for path in directory.iterdir() if path.is_dir() and path.name[0] != ".")
    if not names:
        raise BadSource(f"{directory} has no sub-folders: put the images of each class into one named after it")
    if len(names) > 256:
        raise BadSource(f"{directory} has {len(names):,} classes; labels are one byte, so 256 at most")
    return tuple(names)


def _read_classes(directory: Path, names: tuple[str, ...], preparation: Preparation) -> LabeledImages:
    paths = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((directory / name).glob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not paths:
        raise BadSource(f"{directory} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}) in its class folders")
    images = _read_images((path for path, _ in paths), preparation)
    return LabeledImages(images, np.array([label for _, label in paths], np.uint8))


def _read_images(paths: Iterable[Path], preparation: Preparation) -> np.ndarray:
    """uint8 [N, 28, 28]; every image that cannot be read is named, all in one error."""
    from mnist_pipeline.ml.images import UnreadableImage, read_image

    images, faults = [], []
    for path in paths:
        try:
            image = read_image(path.read_bytes(), preparation)
            if image is None:
                raise UnreadableImage("the image is blank")
            images.append(image)
        except UnreadableImage as error:
            faults.append(f"{path}: {error}")
    if faults:
        raise BadSource(f"{len(faults):,} images cannot be used; repair or remove them:\n" + "\n".join(faults[:20]))
    return np.stack(images)


def _at_mnist_size(image: np.ndarray) -> np.ndarray:
    """[8, 8] of 0..16 -> uint8 [28, 28]: a 20×20 digit placed by its centre of mass, as MNIST was made."""
    from PIL import Image

    digit = Image.fromarray((image * (255 / 16)).astype(np.uint8)).resize((20, 20), Image.Resampling.BICUBIC)
    ink = np.asarray(digit, np.float32)
    down = round(14 - float((ink.sum(1) * np.arange(20)).sum() / ink.sum()))
    right = round(14 - float((ink.sum(0) * np.arange(20)).sum() / ink.sum()))
    down, right = np.clip([down, right], 0, SIDE - 20)
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    canvas[down : down + 20, right : right + 20] = np.asarray(digit)
    return canvas
