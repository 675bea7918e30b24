"""``invdiff eval``: many contenders on the same inputs, measured and shown."""
