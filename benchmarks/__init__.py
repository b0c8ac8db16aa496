"""Measured comparisons. Everything compared is timed in turns inside one run, and reported as ratios."""
