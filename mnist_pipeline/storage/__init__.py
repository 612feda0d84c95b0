"""Bytes under names, on a disk or in S3: what is written once, what may be replaced, and how a place is opened."""
