"""Recommendations for users as they come: their states, one event at a time, and raw ids.

Imports: batch, memory, models, scoring.
"""
