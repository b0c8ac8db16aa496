"""The HTTP service: requests become rows, rows of any requests share batches, runs vote."""
