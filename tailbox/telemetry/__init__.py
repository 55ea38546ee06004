"""Observers: events, metrics, logs."""
