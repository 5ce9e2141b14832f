"""How we talk to endpoints: ours, and others that speak OpenAI's protocol."""
