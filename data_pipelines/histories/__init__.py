"""A prepared log on disk: one record a user, and the manifest.

Imports: directories, errors, hiertcn_jax.batch, raw, sessions.
"""
