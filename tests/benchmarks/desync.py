"""What does a wrong sync cost? The second view shows the scene 0 to 100 ms later than its clock says.

python tests/benchmarks/desync.py [--quick]
"""

from adapting import Shoot
from sweep import sweep

if __name__ == "__main__":
    settings = {float(late): Shoot(late_s=late / 1000) for late in (0, 10, 20, 33, 50, 67, 100)}
    sweep("offset error, ms", __doc__, settings, (0.0, 67.0), ("L_2Dcon (paper)", "phones"))
