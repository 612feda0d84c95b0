"""What can be tuned, how a configuration is scored, and when one is better than another beyond noise.

Pure: data and settings in, scores out. Not here: which configuration is tried next (`studies.py`), and the job.
"""
