"""Settings of the whole suite."""

from hypothesis import settings

# Tests never time: on a busy machine a deadline fails what is right.
settings.register_profile("hiertcn_jax", deadline=None)
settings.load_profile("hiertcn_jax")
