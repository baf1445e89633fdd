"""What is kept on disk: self-describing records, the session folder, downloaded weights, torch checkpoints."""
