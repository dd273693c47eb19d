"""Workflows: models and functions that pass on what they answer."""
