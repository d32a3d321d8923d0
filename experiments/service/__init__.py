"""A trained run as a Recommender; what happened since its log; long tables.

Imports: data_pipelines.config, data_pipelines.errors, data_pipelines.histories,
data_pipelines.lanes, data_pipelines.raw, flags, hiertcn_jax.batch, hiertcn_jax.memory,
hiertcn_jax.scoring, hiertcn_jax.serving, runs.
"""
