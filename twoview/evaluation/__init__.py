"""How far poses are from the truth, or from each other."""
