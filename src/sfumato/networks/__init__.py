"""Adapters from a Condition to one library's network."""
