"""Thin Dagster assets, one module a stage, with the checks beside the asset that they guard.

What an asset computes is in `ml`; an asset takes inputs, calls it, and returns the value with metadata.
"""

import gc

import dagster  # noqa: F401

# What Dagster is made of never becomes garbage. To look for some among it, while the code location loads, takes a fifth
# of that time.
gc.freeze()
