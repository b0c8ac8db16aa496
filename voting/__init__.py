"""What all sides agree on: tally, decision, stopping rules and bounds. Pure, and imports nothing of ours."""
