"""Frames that come one after the other: where from, where to, and what is done in time."""
