"""What each event's user was shown: from files to negatives.

Imports: errors, hiertcn_jax.batch, histories, lanes, raw, sessions.
"""
