"""A single training run: data, settings, loop, journal, checkpoints, results.

Imports: data_pipelines.commands, data_pipelines.config, data_pipelines.embeddings,
data_pipelines.errors, data_pipelines.histories, data_pipelines.lanes, data_pipelines.prepare,
data_pipelines.progress, data_pipelines.raw, data_pipelines.sessions, data_pipelines.synthetic,
flags, hiertcn_jax, hiertcn_jax.batch, hiertcn_jax.config, hiertcn_jax.devices,
hiertcn_jax.learning, hiertcn_jax.memory, hiertcn_jax.models, hiertcn_jax.saving,
hiertcn_jax.scoring, hiertcn_jax.settings, judging, processes.
"""
