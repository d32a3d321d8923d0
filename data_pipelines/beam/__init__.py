"""Preparing a log by Apache Beam: the stages of a pipeline around the functions of one machine."""
