"""Offline work: data, networks, noise-injected training, export, evaluation, publishing."""
