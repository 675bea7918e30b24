"""Recipes: YAML text to validated settings, with a place for every mistake."""
