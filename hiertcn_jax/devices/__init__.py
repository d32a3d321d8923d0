"""Where arrays lie, and what processes tell each other. Imports batch and scoring's item table."""
