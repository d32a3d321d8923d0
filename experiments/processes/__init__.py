"""Signals, child processes, and the processes of one run.

Imports: data_pipelines.commands.
"""
