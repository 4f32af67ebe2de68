"""Carries out a plan: one event loop, thousands of jobs in flight, every step recorded before the next.

`generate` is the way in. `work` holds the values; `engine` decides who may touch a generation; `buying` and `delivery`
are its life before and after the provider accepted it; `lease` is the run's right to act, `brake` what stops
submitting, `pacing` when requests are sent and polled. `settling` finds lost submissions, `resolving` takes a person's
word for them, `watching` waits for other runs. What to do is decided in `planning`; what an answer means, in
`lifecycle.failures`.
"""

from segmind_dagster.runner.generate import Batch, collect, generate, plan_set
from segmind_dagster.runner.work import Progress, RunReport, UnitReport

__all__ = ["Batch", "Progress", "RunReport", "UnitReport", "collect", "generate", "plan_set"]
