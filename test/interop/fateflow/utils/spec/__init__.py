"""Replaces the part of FATE-Flow's BFIA adapter that is missing from its package on PyPI, see the README."""
