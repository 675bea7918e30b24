"""Algorithm 1: a prior learns from photos that the operator itself degrades."""
