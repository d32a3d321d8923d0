"""Checkpoints and their checksums: the only files that the library touches.

Imports: devices.
"""
