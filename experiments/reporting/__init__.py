"""Draws the report: one page about a log, its models and its users, in plain HTML and SVG.

Imports: comparison, data_pipelines.directories, data_pipelines.errors, data_pipelines.histories,
data_pipelines.sessions, flags, hiertcn_jax.batch, hiertcn_jax.memory, hiertcn_jax.models,
hiertcn_jax.scoring, hiertcn_jax.serving, runs, service.
"""
