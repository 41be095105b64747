"""Training scripts; each is a config, a loss and a main."""
