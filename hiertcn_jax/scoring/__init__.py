"""Scores, exact ranks, top-k and metrics; the item table.

Imports: batch, config, devices, layers.
"""
