"""How many phones? (The paper's Figure 4.) One to six views, with and without consistency, 2D and 3D labels.

As in the paper's figure, the consistency loss has weight 1 here.

python tests/benchmarks/views.py [--quick]
"""

from adapting import Conditions
from sweep import sweep

if __name__ == "__main__":
    rest = (90.0, 180.0, 45.0, 135.0, 225.0)
    settings = {float(count): Conditions(angles=rest[: count - 1]) for count in range(1, 7)}
    one = ("loss.consistency=1",)
    rows = {"L_2D": (), "L_2Dcon (paper)": one, "L_3D": (), "L_3Dcon": one, "phones": ()}
    sweep("views", __doc__, settings, (1.0, 2.0), rows)
