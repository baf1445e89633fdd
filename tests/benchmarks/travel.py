"""What does travel cost? Athletes who move 0 to 4 m away from the first phone while they are filmed.

python tests/benchmarks/travel.py [--quick]
"""

from adapting import Conditions
from sweep import sweep

if __name__ == "__main__":
    settings = {float(meters): Conditions(travel_m=float(meters)) for meters in (0, 1, 2, 3, 4)}
    sweep("travel, m", __doc__, settings, (0.0, 3.0), {"L_2Dcon (paper)": (), "phones": ()})
