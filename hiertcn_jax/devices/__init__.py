"""Where arrays lie on devices, and what processes tell each other.

Imports: batch, scoring.
"""
