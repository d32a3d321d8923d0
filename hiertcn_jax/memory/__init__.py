"""What all users do, what follows an item, what a user did: counts at any time, and their terms.

`event_log`, `followers`, `candidates` are numpy and numba alone: loaders and servers use them.
`terms` is the Linen module that turns the counts into additions to the scores.
"""
