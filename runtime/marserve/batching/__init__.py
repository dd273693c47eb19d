"""Requests that wait, and when they leave together."""
