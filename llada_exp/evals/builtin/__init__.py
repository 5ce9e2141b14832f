"""harness=builtin: the embedded model's held-out problems, and any file of problems, asked over HTTP."""
