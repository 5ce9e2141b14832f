"""What the embedded model can do, in words: the one owner of them, for its trainer and its server.

Standard library only."""

DOMAIN = (
    "sums and differences of 0 to 999, products of a one-digit and a two-digit number,"
    " and chains and stories of up to six sums"
)
REFUSAL = f"I am a tiny test model. I can only do {DOMAIN}. Try: What is 53 + 18?"
"""The reply to anything else."""
