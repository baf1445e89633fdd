"""Readers of motion capture and public data sets: a file in, motion or recordings with their cameras out."""
