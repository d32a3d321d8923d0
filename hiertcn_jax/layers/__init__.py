"""Linen layers and masked arithmetic. Imports hiertcn_jax.batch and the models' configs."""
