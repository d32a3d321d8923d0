"""From predictions to new parameters: losses, negatives, optimizer, the training step.

Imports: batch, config, devices, layers, models, saving, scoring, settings.
"""
