"""Personal data of a campaign: access requests and erasure."""
