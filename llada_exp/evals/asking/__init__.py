"""Asking over HTTP: several servers that are good for each other, and what becomes of each request."""
