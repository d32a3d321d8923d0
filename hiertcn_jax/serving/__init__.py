"""Recommendations for users as they come: their states, one event at a time, and raw ids.

`user_states`, `event_rows`, `parts` and `frames` import no JAX.

Imports: baselines, batch, config, devices, item_ids, memory, models, saving, scoring, settings.
"""
