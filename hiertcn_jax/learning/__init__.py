"""From predictions to new parameters: losses, negatives, steps. Imports all but saving."""
