"""What each event's user was shown: from files to negatives.

Imports: errors, hashing, hiertcn_jax.batch, histories, raw, sessions.
"""
