"""Fuzzing: see `tests.fuzz.runs`."""
