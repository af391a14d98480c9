"""What leaves the campaign and what comes back: lists, results, evidence."""
