"""OpenCV, of whichever of its packages is installed: `opencv-python`, or `opencv-python-headless` for servers.

Nothing here opens a window, so the two are the same to us; but the first needs the system's libGL.
"""

from __future__ import annotations

from twoview.errors import MissingBackend

try:
    import cv2
except ImportError as error:
    raise MissingBackend(
        f"OpenCV cannot be imported: {error}",
        hint="on a server without a screen: pip uninstall opencv-python; pip install opencv-python-headless   "
        "or: apt install libgl1 libglib2.0-0",
    ) from error

__all__ = ["cv2"]
