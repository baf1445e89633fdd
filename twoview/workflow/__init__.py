"""The stages around a session folder: what the commands, the demo and a notebook call."""
