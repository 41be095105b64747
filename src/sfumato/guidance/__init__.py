"""Mixes and denoiser wrappers, one paper a file; imports core only."""
