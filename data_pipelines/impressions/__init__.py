"""What was shown beside each event: from files to negatives.

Imports: errors, hiertcn_jax.batch, histories, lanes, raw, sessions.
"""
