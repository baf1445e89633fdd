"""One view to 3D with a model: model files, inference, export."""
