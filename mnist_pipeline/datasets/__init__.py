"""The CSV files that a table is learned from: each content is a dataset of its own, with a key that says which."""
