"""Linen layers and masked arithmetic.

Imports: config, settings.
"""
