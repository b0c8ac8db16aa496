"""Accepted requests become batches of rows, and batches become counted votes."""
