"""The command line: thin readings of the public functions. Only here are typer and rich imported."""
