"""Raw files → checked tables → one training set."""
