"""``invdiff run``: pictures through a pipeline, with a report."""
