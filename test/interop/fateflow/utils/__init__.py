"""Stands in for the part of FATE-Flow's BFIA adapter that its package on PyPI lacks. See the README beside it."""
