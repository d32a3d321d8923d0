"""Input that nobody meant: thousands of damaged inputs, each right or refused in one line.

Every test draws its inputs from fixed seeds, compares what is accepted with a plain second
implementation, matches each refusal with a known kind, and ends by checking that every kind of
outcome was reached: a generator that makes only garbage, or only good input, fails its test.
"""
