"""Compares training speed with the alternatives that users have; see README.md here."""
