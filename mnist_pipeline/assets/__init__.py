"""Thin Dagster assets, one module a stage, with the checks beside the asset that they guard.

What an asset computes is in `ml`; an asset takes inputs, calls it, and returns the value with metadata.
"""
