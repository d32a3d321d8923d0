"""Starts and ends every command: flags, flagfiles, help, signals, memory.

Imports: directories, errors, hiertcn_jax.settings, local_paths, raw.
"""
