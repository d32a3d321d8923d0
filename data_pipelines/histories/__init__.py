"""Histories on disk: a TFDS dataset in ArrayRecord files, one record a user."""
