"""Whole nodes in processes of their own: what a person or an operator would see."""
