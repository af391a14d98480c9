"""Policy value on held-out voters: policies, paired gains, the gate, audits."""
