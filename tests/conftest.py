"""Settings that must stand before torch is imported."""

import os

# Threads that spin at a barrier make every small step ten times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
