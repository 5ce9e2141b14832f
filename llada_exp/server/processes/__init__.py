"""Processes: how they start and end, what a worker does, what it shares. Knows no HTTP."""
