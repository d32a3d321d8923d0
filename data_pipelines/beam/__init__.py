"""Prepares a log with Apache Beam: pipeline stages that call the functions of a single machine.

Imports: config, embeddings, errors, histories, impressions, raw, sessions.
"""
