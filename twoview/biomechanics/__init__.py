"""What a coach reads off 3D poses: smoothing in Hz, joint angles and events."""
