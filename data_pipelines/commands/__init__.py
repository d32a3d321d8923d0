"""How every command starts and ends: flags, flagfiles, help, signals, memory.

Imports: directories, errors, hiertcn_jax.settings, local_paths, raw.
"""
