"""Making again exactly what is out of date, by code or by data."""
