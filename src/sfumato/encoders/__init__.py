"""Makers of conditions from text and pictures."""
