"""The mathematics of bodies and cameras."""
