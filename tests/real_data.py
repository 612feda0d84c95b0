"""Where the real Superstore table is, for the tests that need it."""

import os

KEPT = "TESTS_SUPERSTORE_CSV"  # for worker processes, which begin with the environment of the first
# Taken out under its own name: no other test is to find a dataset that it did not drop itself.
SUPERSTORE_CSV = os.environ.setdefault(KEPT, os.environ.pop("SUPERSTORE_CSV", ""))
