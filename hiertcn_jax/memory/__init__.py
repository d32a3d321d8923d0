"""What all users do, what follows an item, what a user did: counts at any time, and their terms.

`event_log`, `followers`, `lists` and `memory` use numpy and numba alone, so that loaders and
servers can use them. `levels` says which events count. `terms` is the Linen module that turns
counts into additions to the scores.

Imports: batch.
"""
