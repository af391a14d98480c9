"""What is kept of a person: show it, and forget it."""
