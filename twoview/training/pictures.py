"""Pictures of held-out takes for the report of a run: the video, and the 3D before and after adaptation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from twoview.errors import TwoViewError
from twoview.lifting.inference import lift
from twoview.lifting.model import Model
from twoview.media.opencv import cv2
from twoview.takes import Take
from twoview.training.clips import Clip
from twoview.visualization.overlay import draw_sheet

Videos = Mapping[str, Mapping[str, Path]]  # take -> view -> video
Pictures = Sequence[tuple[str, bytes]]  # caption and jpeg

MOST = 3  # takes
MOMENTS = 6
QUALITY = 80  # of the jpeg


def held_out_pictures(
    takes: Sequence[Take], clips: Sequence[Clip], before: Model, after: Model, videos: Videos
) -> Pictures:
    """One picture per take of the held-out clips, of its first view, at moments spread over these clips.

    Rows: the video with the 2D keypoints, the 3D of the unadapted lifter, and that of the adapted one.
    """
    known = {take.name: take for take in takes}
    pictures = []
    for name in list(dict.fromkeys(clip.take for clip in clips))[:MOST]:
        take, own = known[name], [clip for clip in clips if clip.take == name]
        view = own[0].views[0]
        moments = take.sync.to_view(view, np.concatenate([clip.time for clip in own]))
        poses = take.poses[view].between(float(moments.min()), float(moments.max()))
        lifted, earlier = lift(after, poses), lift(before, poses)
        for video in dict.fromkeys((videos.get(name, {}).get(view), None)):
            with suppress(TwoViewError):  # a video that is gone or damaged: the skeletons alone
                sheet = draw_sheet(video, poses, lifted, before=earlier, count=MOMENTS)
                options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
                pictures.append((f"{name}, view {view}", cv2.imencode(".jpg", sheet[..., ::-1], options)[1].tobytes()))
                break
    return pictures
