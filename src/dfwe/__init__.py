"""Derivative-free weight-space ensembling (arXiv 2307.03506)."""
