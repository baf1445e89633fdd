"""3D from several uncalibrated views."""
