"""Signals, child processes, several processes of one run. Imports nothing else of ours here."""
