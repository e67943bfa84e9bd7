"""Posterior samplers for inverse problems against exact posteriors. See README.md."""
