"""Scores a model on a split, slices the scores, prints them. Imports runs.data, runs.files."""
