"use strict";
// What the page computes, without a document: times, clocks, poses and curves. viewer.js draws it; tests run it in node.

const motion = {
  // Index of the time nearest to t in ascending times.
  nearest(times, t) {
    let low = 0;
    let high = times.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < t) low = middle + 1;
      else high = middle;
    }
    return low > 0 && t - times[low - 1] <= times[low] - t ? low - 1 : low;
  },

  // The time n frames after the one shown at t, or before it; stays within the times.
  step(times, t, n) {
    const index = motion.nearest(times, t) + n;
    return times[Math.max(0, Math.min(times.length - 1, index))];
  },

  // Clocks: page = offset + rate * video.
  toVideo: (video, t) => (t - video.offset) / video.rate,
  toPage: (video, t) => video.offset + video.rate * t,

  // Where in the copy of a video (whose first frame is at 0) the frame nearest to page time t is shown: between that
  // frame and the next, since a player that rounds would show its neighbor. Null where the video shows nothing.
  seekTime(video, t) {
    const { times } = video;
    const own = motion.toVideo(video, t);
    const usual = times.length > 1 ? (times[times.length - 1] - times[0]) / (times.length - 1) : 0.04;
    if (own < times[0] - usual || own > times[times.length - 1] + usual) return null;
    const index = motion.nearest(times, own);
    const next = index + 1 < times.length ? times[index + 1] - times[index] : usual;
    return times[index] - times[0] + Math.min(next, usual) * 0.4;
  },

  // Page time of the frame that a player shows which says it is at `current`.
  pageTime(video, current) {
    const { times } = video;
    let index = motion.nearest(times, times[0] + current);
    if (times[index] - times[0] > current + 1e-4 && index > 0) index -= 1;
    return motion.toPage(video, times[index]);
  },

  // Joint j of a frame of whole numbers as [x, y, z], or null where it is unknown.
  joint(frame, j, perUnit) {
    const x = frame[3 * j];
    return x === null ? null : [x / perUnit, frame[3 * j + 1] / perUnit, frame[3 * j + 2] / perUnit];
  },

  // Box around all joints of all frames of figures: {low, high}, or null where there are none.
  box(figures, perUnit) {
    const low = [Infinity, Infinity, Infinity];
    const high = [-Infinity, -Infinity, -Infinity];
    for (const { joints } of figures) {
      for (const frame of joints) {
        frame.forEach((value, i) => {
          if (value === null) return;
          low[i % 3] = Math.min(low[i % 3], value / perUnit);
          high[i % 3] = Math.max(high[i % 3], value / perUnit);
        });
      }
    }
    return low[0] <= high[0] ? { low, high } : null;
  },

  // Spans [from, to] of the times in which no frame of a figure has a joint.
  gaps(times, joints) {
    const found = [];
    let start = -1;
    for (let i = 0; i <= times.length; i += 1) {
      const empty = i < times.length && joints[i].every((value) => value === null);
      if (empty && start < 0) start = i;
      if (!empty && start >= 0) {
        found.push([times[Math.max(0, start - 1)], times[Math.min(times.length - 1, i)]]);
        start = -1;
      }
    }
    return found;
  },

  // The window of a camera that moves, at time t.
  window(windows, t) {
    let chosen = windows[0];
    for (const one of windows) if (one.start <= t) chosen = one;
    return chosen;
  },

  // Side of a floor square: about a seventh of a body, and a round number of meters where there are meters.
  gridStep(reach, size, meters) {
    let step = meters ? 0.25 : 0.25 * size;
    while (reach / step > 12) step *= 2;
    return step;
  },

  // Smallest and largest of a curve with gaps, or null.
  range(values) {
    const known = values.filter((value) => value !== null);
    return known.length ? [Math.min(...known), Math.max(...known)] : null;
  },

  // Whether videos of these shapes (width over height) are larger side by side than one above the other.
  besides(shapes, width, height) {
    const sum = shapes.reduce((total, shape) => total + shape, 0);
    const inverse = shapes.reduce((total, shape) => total + 1 / shape, 0);
    const high = Math.min(height, width / sum);
    const wide = Math.min(width, height / inverse);
    return shapes.length < 2 || high * high * sum >= wide * wide * inverse;
  },

  // A point seen by a simple camera that looks at `target`: [x, y] px from the middle of the picture, and its depth.
  project(point, { yaw, pitch, scale, target }) {
    const [x, y, z] = point.map((value, i) => value - target[i]);
    const right = x * Math.cos(yaw) - z * Math.sin(yaw);
    const away = -x * Math.sin(yaw) - z * Math.cos(yaw);
    const up = y * Math.cos(pitch) + away * Math.sin(pitch);
    return [right * scale, -up * scale, away * Math.cos(pitch) - y * Math.sin(pitch)];
  },
};

if (typeof module !== "undefined") module.exports = motion;
