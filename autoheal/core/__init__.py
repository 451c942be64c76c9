"""The pure part: window, conditions, alert states, guards, arbiter, breaker, decide.

No clock, no I/O, no randomness, no logging: time is an argument, and the same inputs give the same
bytes, in any process.
"""
