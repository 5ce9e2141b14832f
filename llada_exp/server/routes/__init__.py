"""HTTP: what a request may say, who may send it, and what it gets back. Knows no worker and no engine."""
