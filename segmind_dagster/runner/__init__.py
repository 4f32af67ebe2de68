"""Carries out a plan: one event loop, thousands of jobs in flight, every step recorded before the next.

`generate` is the way in. `work` holds the values, `engine` the life of one generation, `lease` the run's right
to act, `pacing` when requests are sent and polled, `settling` finds lost submissions, `watching` waits for other
runs. What to do is decided in `planning`; what an answer means, in `gateway.failures`.
"""

from segmind_dagster.runner.generate import Batch, collect, generate, plan_set
from segmind_dagster.runner.work import Progress, RunReport, UnitReport

__all__ = ["Batch", "Progress", "RunReport", "UnitReport", "collect", "generate", "plan_set"]
