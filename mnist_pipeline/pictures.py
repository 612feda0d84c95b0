"""Pictures for people: kept as PNG files, and shown in the Dagster UI as metadata."""

import base64
from dataclasses import dataclass

import dagster as dg

from mnist_pipeline.storage.shelves import Shelf


@dataclass(frozen=True)
class PictureBook:
    """One folder an asset, one PNG file a picture; the newest replaces the one before."""

    shelf: Shelf

    def show(self, asset: str, name: str, png: bytes) -> dg.MarkdownMetadataValue:
        """Keep the picture as <asset>/<name>.png and return it as something that the UI shows."""
        self.shelf.put(f"{asset}/{name}.png", png)
        return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})")
