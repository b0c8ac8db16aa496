"""Finished runs become published models."""
