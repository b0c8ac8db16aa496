"""Votes of trained runs."""
