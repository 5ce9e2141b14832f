"""What routes ask: the requests that wait for an answer, and what is the case. Knows no HTTP."""
