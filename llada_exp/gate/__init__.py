"""The gate: is the engine exact, and what does a decoding setting cost on the embedded model?"""
