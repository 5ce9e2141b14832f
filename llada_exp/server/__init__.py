"""The server: `supervisor.run_server` starts and ends it.

`routes` (HTTP: schema, key, errors, replies) ask `state` (what waits, what is the case), which asks
`processes` (workers, their engine, their watch). `litserve_internals` has all that is taken from LitServe.
"""
