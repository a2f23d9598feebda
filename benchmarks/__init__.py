"""Measuring: operations, latency, and what the demo shows."""
