"""Code versions that cannot be forgotten: a digest of the source that an asset runs through."""

import ast
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def code_version(*modules: str) -> str:
    """12 hex digits over these files, e.g. "ml/split.py"; comments, blank lines and formatting do not count."""
    digest = hashlib.sha256()
    for module in modules:
        tree = ast.parse((PACKAGE / module).read_text())
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]
