"""Memories: databases of pictures that are searched by likeness, and what diffusion models take from them."""
