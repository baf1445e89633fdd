"""Video and sound files, on their own clock."""
