"""Files of any kind to typed columns; errors name file, row and column.

Imports: errors, histories, progress.
"""
