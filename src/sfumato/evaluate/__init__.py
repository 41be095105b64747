"""Measurements: pictures and features in, numbers with intervals out."""
