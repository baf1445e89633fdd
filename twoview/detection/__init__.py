"""From a video to the athlete's Poses2D."""
