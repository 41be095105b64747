"""Samplers by their short names, and the adapter to diffusers' schedulers."""
