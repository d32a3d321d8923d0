"""A server of an exported model, without JAX: states of users, counts, and HTTP.

`app` turns HTTP into the requests of `requests`, `worker` runs the `engine` in its thread, and
`store` says what a store does; `sqlite_store` is one in a file, and `redis_store` one for several
servers. `snapshots` keeps the counts, so that a start is quick. `swapping` replaces the model,
and `pages` and the folder `page` are for people.

Imports: data_pipelines.commands, data_pipelines.directories, data_pipelines.errors,
experiments.reporting, hiertcn_jax, hiertcn_jax.exported, hiertcn_jax.item_ids, hiertcn_jax.memory,
hiertcn_jax.serving.
"""
