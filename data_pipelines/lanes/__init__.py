"""Histories to batches: endless lanes, rows, loaders. Imports histories, embeddings."""
