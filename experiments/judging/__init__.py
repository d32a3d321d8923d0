"""Scores a model on a split, slices the results, and prints them.

Imports: comparison, data_pipelines.embeddings, data_pipelines.errors, data_pipelines.histories,
data_pipelines.lanes, data_pipelines.progress, data_pipelines.raw, hiertcn_jax.baselines,
hiertcn_jax.batch, hiertcn_jax.config, hiertcn_jax.devices, hiertcn_jax.memory, hiertcn_jax.models,
hiertcn_jax.scoring, hiertcn_jax.settings, runs.
"""
