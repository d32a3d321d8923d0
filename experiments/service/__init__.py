"""A run or a ranker as a Recommender; fitting in one call; what happened since; long tables.

Imports: data_pipelines.commands, data_pipelines.config, data_pipelines.errors,
data_pipelines.histories, data_pipelines.lanes, data_pipelines.prepare, data_pipelines.progress,
data_pipelines.raw, data_pipelines.sessions, flags, hiertcn_jax.baselines, hiertcn_jax.batch,
hiertcn_jax.memory, hiertcn_jax.scoring, hiertcn_jax.serving, judging, runs.
"""
