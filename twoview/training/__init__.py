"""Adaptation to new takes, and pretraining."""
