"""Priors and recipes on a model hub: ``pip install 'invdiff[hub]'``."""
