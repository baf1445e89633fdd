"""Where should the second phone stand? (The paper's Figure 3b.) The second view at 15 to 165 degrees from the first.

python tests/benchmarks/angle.py [--quick]
"""

from adapting import Conditions
from sweep import sweep

if __name__ == "__main__":
    angles = (15, 30, 60, 90, 120, 150, 165)
    settings = {float(angle): Conditions(angles=(float(angle),)) for angle in angles}
    sweep("angle between the views, degrees", __doc__, settings, (30.0, 90.0), {"L_2Dcon (paper)": (), "phones": ()})
