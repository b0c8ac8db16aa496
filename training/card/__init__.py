"""All training of the defence side by side on one graphics card, within a given time."""
