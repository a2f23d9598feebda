"""Nets, data, losses and recipes: from a paper to a checkpoint."""
