"""Training set → judged, registered lift model."""
