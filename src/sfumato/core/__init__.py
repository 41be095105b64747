"""Levels, conditions, branches, models and the sampling loop; imports torch only."""
