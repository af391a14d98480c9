"""Handover: lists that leave a campaign, results that come back, evidence."""
