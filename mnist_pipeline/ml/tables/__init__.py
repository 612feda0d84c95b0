"""Tables: the same habits for rows and columns."""
