"""Phrases of prompts, as spans of characters; imports nothing of the package."""
