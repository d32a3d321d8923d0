"""Preparing a log with Apache Beam: the stages of a pipeline around the functions of one machine.

Imports: config, embeddings, errors, histories, impressions, raw, sessions.
"""
