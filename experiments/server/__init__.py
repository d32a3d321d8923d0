"""A server of an exported model, without JAX: states of users, counts, and HTTP.

`app` turns HTTP into the requests of `requests`, `worker` runs the `engine` in its thread, and
`store` says what a store does; `sqlite_store` is one.

Imports: data_pipelines.commands, hiertcn_jax, hiertcn_jax.exported, hiertcn_jax.item_ids,
hiertcn_jax.memory, hiertcn_jax.serving.
"""
