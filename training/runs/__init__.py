"""One run: its recipe, its folder, its checkpoints."""
