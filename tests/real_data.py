"""Where the real Superstore table is, for the tests that need it."""

import os

# Taken out of the environment: no other test is to find a dataset that it did not drop itself.
SUPERSTORE_CSV = os.environ.pop("SUPERSTORE_CSV", "")
