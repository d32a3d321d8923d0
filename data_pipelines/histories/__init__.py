"""A prepared log on disk: one record per user, and the manifest.

Imports: directories, errors, hiertcn_jax.batch, raw, sessions.
"""
