"""Places arrays on devices, and lets processes exchange values.

Imports: batch, scoring.
"""
