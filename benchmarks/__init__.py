"""Measuring: operations, latency, quality, and what the demo shows."""
