"""Memory: counts at any time of what all users do, what follows an item, what a user did.

`event_log`, `followers`, `lists`, `memory` and `compaction`, which drops what live counts no longer
need, use only numpy and numba, so that loaders and servers can use them. `levels` says which events
count. `phi` takes logarithms of counts, and `terms` is the Linen module that turns them into
additions to the scores.

Imports: item_ids.
"""
