"""Compares several models on the same events: cells, tables, the leakage audit.

Imports: data_pipelines.directories, data_pipelines.embeddings, data_pipelines.errors,
data_pipelines.histories, data_pipelines.lanes, flags, hiertcn_jax.baselines, hiertcn_jax.batch,
hiertcn_jax.config, hiertcn_jax.memory, hiertcn_jax.models, hiertcn_jax.saving, hiertcn_jax.scoring,
judging, runs.
"""
