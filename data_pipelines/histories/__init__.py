"""A prepared log on disk: one record a user. Imports sessions."""
