"""harness=nemo_skills: the user's own NeMo-Skills, run against endpoints."""
