"""Adversarial examples: made, trained against and measured; certified training under input noise."""
