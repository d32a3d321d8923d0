"""Checkpoints and their checksums. The library touches no other files.

Imports: devices.
"""
