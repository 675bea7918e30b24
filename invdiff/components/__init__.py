"""Plugins: found, listed, and their components built from validated settings, with the weights they name."""
