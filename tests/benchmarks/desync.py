"""What does a wrong sync cost? The second view shows the scene 0 to 100 ms later than its clock says.

python tests/benchmarks/desync.py [--quick]
"""

from adapting import Conditions
from sweep import sweep

if __name__ == "__main__":
    settings = {float(delay): Conditions(delay_s=delay / 1000) for delay in (0, 10, 20, 33, 50, 67, 100)}
    sweep("offset error, ms", __doc__, settings, (0.0, 67.0), {"L_2Dcon (paper)": (), "phones": ()})
