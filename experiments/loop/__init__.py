"""The daily loop: what came in → lifts → plan → lots → assignments, day after day."""
