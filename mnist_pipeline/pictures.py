"""Pictures for people: kept as PNG files, and shown in the Dagster UI as metadata."""

import base64
import os
from dataclasses import dataclass
from pathlib import Path

import dagster as dg


@dataclass(frozen=True)
class PictureBook:
    """One folder a asset, one PNG file a picture; the newest replaces the one before."""

    folder: Path

    def show(self, asset: str, name: str, png: bytes) -> dg.MarkdownMetadataValue:
        """Keep the picture as <asset>/<name>.png and return it as something that the UI shows."""
        path = self.folder / asset / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            part.write_bytes(png)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
        return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})")
