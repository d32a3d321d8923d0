"""A trained run as a Recommender.

Imports: data_pipelines.histories, data_pipelines.lanes, flags, hiertcn_jax.batch,
hiertcn_jax.scoring, hiertcn_jax.serving, runs.
"""
