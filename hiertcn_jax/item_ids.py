"""The rows of the item table that are no items of the catalogue. Imports nothing."""

PADDING_ID = 0
"""Row 0 of the item table: no event."""

UNKNOWN_ID = 1
"""Row 1: an item outside the training vocabulary. An ordinary event, but never a target."""

FIRST_ITEM_ID = 2
"""The first row of the catalogue, the items of the training vocabulary."""
