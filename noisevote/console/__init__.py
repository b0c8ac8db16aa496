"""What the commands share: how they are found, where their flags come from, and what they show."""
