"""Reads files of any kind into typed columns; errors name file, row and column.

Imports: errors, histories, progress.
"""
