"""Search of hyperparameters: spaces, trials, leaderboard.

Imports: data_pipelines.commands, data_pipelines.errors, data_pipelines.histories, flags,
hiertcn_jax.learning, hiertcn_jax.models, hiertcn_jax.saving, hiertcn_jax.settings, judging,
processes, runs.
"""
