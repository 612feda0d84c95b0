"""Digits from data to deployed model to predictions, as Dagster assets."""
