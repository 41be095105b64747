"""The training loop, losses and data order."""
