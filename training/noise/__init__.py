"""Noise while a network is trained."""
