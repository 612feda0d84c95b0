"""What is published about MNIST and its drop-in kin: file names, md5 of the archives, mirrors, class names.

The md5 sums are those that torchvision checks after a download. For MNIST the md5 of the unpacked files is known
as well, so that files which were compressed anew still verify.
"""

from dataclasses import dataclass, field

from mnist_pipeline.ml.digits import Preparation

DIGIT_NAMES = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


@dataclass(frozen=True)
class Published:
    """files: (role, archive name, md5 of the archive), role being e.g. "train images"."""

    name: str
    files: tuple[tuple[str, str, str], ...]
    mirrors: tuple[str, ...]
    class_names: tuple[str, ...]
    preparation: Preparation = "ink"
    md5_unpacked: dict[str, str] = field(default_factory=dict)


def _lecun_names(train_images: str, train_labels: str, test_images: str, test_labels: str) -> tuple:
    return (
        ("train images", "train-images-idx3-ubyte.gz", train_images),
        ("train labels", "train-labels-idx1-ubyte.gz", train_labels),
        ("test images", "t10k-images-idx3-ubyte.gz", test_images),
        ("test labels", "t10k-labels-idx1-ubyte.gz", test_labels),
    )


MNIST = Published(
    "mnist",
    _lecun_names(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
    DIGIT_NAMES,
    md5_unpacked={
        "train images": "6bbc9ace898e44ae57da46a324031adb",
        "train labels": "a25bea736e30d166cdddb491f175f624",
        "test images": "2646ac647ad5339dbf082846283269ea",
        "test labels": "27ae3e4e09519cfbb04c329615203637",
    },
)

FASHION_MNIST = Published(
    "fashion_mnist",
    _lecun_names(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    preparation="resize",
)

KMNIST = Published(
    "kmnist",
    _lecun_names(
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    ),
    ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
)

QMNIST = Published(
    "qmnist",
    (
        ("train images", "qmnist-train-images-idx3-ubyte.gz", "ed72d4157d28c017586c42bc6afe6370"),
        ("train labels", "qmnist-train-labels-idx2-int.gz", "0058f8dd561b90ffdd0f734c6a30e5e4"),
        ("test images", "qmnist-test-images-idx3-ubyte.gz", "1394631089c404de565df7b7aeaf9412"),
        ("test labels", "qmnist-test-labels-idx2-int.gz", "5b5b05890a5e13444e108efe57b788aa"),
    ),
    ("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
    DIGIT_NAMES,
)

PUBLISHED = {each.name: each for each in (MNIST, FASHION_MNIST, KMNIST, QMNIST)}
