"""From a location, which is a folder or s3://bucket/prefix, to what keeps bytes there."""

from pathlib import Path

from mnist_pipeline.blobs import BlobStore, DiskBlobs
from mnist_pipeline.shelves import DiskShelf, Shelf


def blobs_at(location: str, endpoint: str = "") -> BlobStore:
    """Blobs that are never replaced. endpoint: of an S3-compatible server, empty for AWS."""
    return DiskBlobs(Path(location))


def shelf_at(location: str, endpoint: str = "") -> Shelf:
    """Files that may be replaced."""
    return DiskShelf(Path(location))
