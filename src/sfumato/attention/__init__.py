"""Attention edits, one paper a file; imports core only."""
