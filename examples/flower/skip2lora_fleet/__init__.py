"""Adapters of many devices, merged: what a server asks, and what a device answers."""
