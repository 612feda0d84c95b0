"""A fitted pipeline as the files of a version, and back: skops, which runs no code when it is read, and no pickle.

skops names the parts of a model after addresses in memory and dates them; both are put aside here, so that the same
model gives the same bytes and so the same version.
"""

import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mnist_pipeline.ml.lean_imports import without

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

MODEL, GOLDEN = "model.skops", "golden.json"
TRUSTED = {
    "sklearn.tree._tree.Tree",
    "numpy.dtype",
}  # of trees and encoders; read only after the store has verified the digest
GOLDEN_ROWS = 8
TOLERANCE = 1e-9
_IDS = re.compile(rb'"__id__": (\d+)')
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


class BadModel(ValueError):
    """Bytes that are no model of ours, or one that answers otherwise than it did when it was stored."""


def pack(pipeline: "Pipeline", rows: "pd.DataFrame", names: tuple[str, str]) -> dict[str, bytes]:
    """The files of a version. rows: features, of which a few are kept with the answers that they must get.

    names: what negative and positive rows are called; other names are another version, as its card says them.
    """
    few = rows.head(GOLDEN_ROWS)
    values = few.astype(object).where(few.notna(), None).to_dict("list")
    numbers = list(few.select_dtypes("number"))
    golden = {"class_names": names, "rows": values, "numbers": numbers, "probabilities": _answers(pipeline, few)}
    data = canonical(_skops().dumps(pipeline))
    return {MODEL: data, GOLDEN: json.dumps(golden, allow_nan=False).encode()}


def load(files: Mapping[str, bytes]) -> "Pipeline":
    """The pipeline, after its golden rows got the answers that they must get. Raises BadModel."""
    import pandas as pd

    skops = _skops()
    foreign = set(skops.get_untrusted_types(data=files[MODEL])) - TRUSTED
    if foreign:
        raise BadModel(f"{MODEL} holds types that none of our models has: {', '.join(sorted(foreign))}. Do not load it")
    pipeline = skops.loads(files[MODEL], trusted=sorted(TRUSTED))
    golden = json.loads(files[GOLDEN])
    rows = pd.DataFrame(golden["rows"]).astype(dict.fromkeys(golden["numbers"], float))
    answers = _answers(pipeline, rows)
    off = max(abs(a - b) for a, b in zip(answers, golden["probabilities"], strict=True))
    if not off <= TOLERANCE:
        raise BadModel(
            f"{MODEL} answers otherwise than when it was stored (by {off:.2g}): another version of scikit-learn? "
            "Train it again"
        )
    return pipeline


def canonical(data: bytes) -> bytes:
    """The same archive with parts named 1, 2, 3 … in the order in which they are mentioned, and without dates."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    schema = parts.pop("schema.json")
    numbers: dict[bytes, bytes] = {}
    for found in _IDS.findall(schema):
        numbers.setdefault(found, str(len(numbers) + 1).encode())
    schema = _IDS.sub(lambda match: b'"__id__": ' + numbers[match[1]], schema)
    renamed = {}
    for name, part in parts.items():
        stem, dot, suffix = name.partition(".")
        new = numbers.get(stem.encode(), stem.encode()).decode() + dot + suffix
        schema = schema.replace(f'"{name}"'.encode(), f'"{new}"'.encode())
        renamed[new] = part
    return _zipped({**renamed, "schema.json": schema})


def _skops() -> Any:
    """skops.io, imported without torch and pytest: it imports all of scikit-learn, which takes them along where they
    are installed. That is 1.6 of 1.9 s, and no model of a table needs it."""
    with without("torch", "pytest"):
        import skops.io
    return skops.io


def _zipped(parts: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name in sorted(parts):
            info = zipfile.ZipInfo(name, _LONG_AGO)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, parts[name], compresslevel=1)
    return written.getvalue()


def _answers(pipeline: "Pipeline", rows: "pd.DataFrame") -> list[Any]:
    return [float(answer) for answer in pipeline.predict_proba(rows)[:, 1]]
