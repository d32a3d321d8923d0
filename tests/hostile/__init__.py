"""Hostile input: thousands of damaged inputs, each handled correctly or refused in one line.

Every test draws its inputs from fixed seeds, compares accepted inputs with a plain second
implementation, and matches each refusal with a known kind. At the end it checks that every kind of
outcome occurred: a generator of only garbage, or only good input, fails its test.
"""
