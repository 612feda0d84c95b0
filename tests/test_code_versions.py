"""Code versions change with what the code does, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnist_pipeline import code_versions
from mnist_pipeline.code_versions import code_version

SOURCE = '''"""What it does."""

LIMIT = 3


def twice(number: int) -> int:
    return number * 2
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of two modules in the place of ours."""
    monkeypatch.setattr(code_versions, "PACKAGE", tmp_path)
    (tmp_path / "ml").mkdir()
    (tmp_path / "ml" / "a.py").write_text(SOURCE)
    (tmp_path / "b.py").write_text("B = 1\n")
    return tmp_path


def test_a_version_is_twelve_hex_digits(package: Path) -> None:
    version = code_version("ml/a.py", "b.py")
    assert len(version) == 12
    assert int(version, 16) >= 0


@pytest.mark.parametrize(
    "same",
    [
        SOURCE.replace("LIMIT = 3", "# why three\nLIMIT = 3  # not four"),
        SOURCE.replace("\n\n", "\n\n\n\n"),
        SOURCE.replace("number * 2", "(number  *  2)"),
        SOURCE.replace("(number: int)", "(\n    number: int,\n)"),
    ],
    ids=["comments", "blank lines", "spaces", "line breaks"],
)
def test_comments_and_formatting_do_not_count(package: Path, same: str) -> None:
    before = code_version("ml/a.py")
    (package / "ml" / "a.py").write_text(same)
    assert same != SOURCE
    assert code_version("ml/a.py") == before


@pytest.mark.parametrize(
    "other",
    [
        SOURCE.replace("LIMIT = 3", "LIMIT = 4"),
        SOURCE.replace("number * 2", "number + 2"),
        SOURCE.replace("LIMIT = 3\n", ""),
        SOURCE + "\n\ntwice = None\n",
    ],
    ids=["a number", "an operator", "something gone", "something new"],
)
def test_what_the_code_does_counts(package: Path, other: str) -> None:
    before = code_version("b.py", "ml/a.py")
    (package / "ml" / "a.py").write_text(other)
    assert code_version("b.py", "ml/a.py") != before


def test_only_the_modules_named_count(package: Path) -> None:
    before = code_version("ml/a.py")
    (package / "b.py").write_text("B = 2\n")
    assert code_version("ml/a.py") == before
    assert code_version("ml/a.py", "b.py") != before


def test_a_module_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        code_version("ml/nothing.py")
