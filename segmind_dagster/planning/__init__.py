"""Values, what the ledger knows and the caps, to decisions with reasons. Pure: no clock, no file, no network.

`estimate` prices things, `plan` decides what happens to each generation, `total` adds plans up. Carrying it out is
`runner`'s job.
"""

from segmind_dagster.planning.estimate import Estimate, price_models
from segmind_dagster.planning.plan import Plan, apply_caps, make_plan
from segmind_dagster.planning.total import Total

__all__ = ["Estimate", "Plan", "Total", "apply_caps", "make_plan", "price_models"]
