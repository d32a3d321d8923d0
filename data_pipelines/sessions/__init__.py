"""Columns to sessions, filters, splits, vocabulary. Imports raw, histories.record."""
