"""How the libraries inside our html pages are made: three.js with OrbitControls, and uPlot, as one minified script.

    python docs/make_page_libraries.py     # needs npm and its registry; writes to twoview/assets/page/

Only what `viewer.js` uses is in it. To update a library, change its version here, run this, look at a page and run
`tests/visualization/test_viewer.py`.
"""

import json
import subprocess
import tempfile
from pathlib import Path

OUT = Path(__file__).parents[1] / "twoview" / "assets" / "page"
PACKAGES = {"three": "0.187.0", "uplot": "1.6.32", "esbuild": "0.28.2"}
THREE = (
    "BufferAttribute", "BufferGeometry", "CanvasTexture", "Color", "CylinderGeometry", "DirectionalLight", "Group",
    "HemisphereLight", "LineBasicMaterial", "LineSegments", "Mesh", "MeshLambertMaterial", "PerspectiveCamera",
    "PlaneGeometry", "Scene", "ShadowMaterial", "SphereGeometry", "Sprite", "SpriteMaterial", "Vector3",
    "WebGLRenderer",
)  # fmt: skip
ENTRY = """
import {{ {names} }} from "three";
import {{ OrbitControls }} from "three/examples/jsm/controls/OrbitControls.js";
import uPlot from "uplot";
globalThis.libraries = {{ three: {{ {names}, OrbitControls }}, uPlot }};
"""
# uPlot asks for the number format of the browser's language when it loads, and some browsers name one that is none.
LANGUAGE = (
    "try { new Intl.NumberFormat(navigator.language); } "
    'catch { Object.defineProperty(navigator, "language", { value: "en-US" }); }'
)


def main() -> None:
    """Install the packages in a temporary folder, bundle them, and copy the bundle and the licenses."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": PACKAGES}))
        (folder / "entry.mjs").write_text(ENTRY.format(names=", ".join(THREE)))
        subprocess.run(["npm", "install", "--no-audit", "--no-fund"], cwd=folder, check=True)
        options = ["--bundle", "--minify", "--format=iife", "--target=es2020", "--legal-comments=inline",
                   f"--banner:js={LANGUAGE}"]  # fmt: skip
        subprocess.run(["npx", "esbuild", "entry.mjs", *options, "--outfile=libraries.js"], cwd=folder, check=True)
        packages = folder / "node_modules"
        (OUT / "libraries.js").write_bytes((folder / "libraries.js").read_bytes())
        (OUT / "libraries.css").write_bytes((packages / "uplot" / "dist" / "uPlot.min.css").read_bytes())
        for package in ("three", "uplot"):
            (OUT / f"LICENSE.{package}").write_bytes((packages / package / "LICENSE").read_bytes())


if __name__ == "__main__":
    main()
