"""Everything that looks by itself, again and again: what arrived, what was missed, what went wrong, who was told."""
