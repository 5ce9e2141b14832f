"""Servers as processes and as jobs: start, find, stop. `python -m llada_exp.jobs` is the command."""

from llada_exp.jobs.local import ServerFailed, ServerHandle, running_server, stop

__all__ = ["ServerFailed", "ServerHandle", "running_server", "stop"]
