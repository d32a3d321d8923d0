"""Adds later events to a prepared log: what it keeps for that, and what has to be written anew.

Imports: config, errors, hashing, hiertcn_jax.settings, histories, progress, raw, sessions.
"""
