"""Makes flags from settings, and settings from flags.

Imports: data_pipelines.commands, data_pipelines.synthetic, hiertcn_jax.learning,
hiertcn_jax.memory, hiertcn_jax.models, hiertcn_jax.saving, hiertcn_jax.settings, judging,
processes, runs.
"""
