"""Training set → judged, registered lift model."""

import os

# before anything loads LightGBM: OpenMP threads that wait by spinning make a busy
# machine many times slower
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
