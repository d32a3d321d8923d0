"""Flags from configs and back. Imports the libraries' configs."""
