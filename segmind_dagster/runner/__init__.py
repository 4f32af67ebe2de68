"""Carries out a plan: one event loop, thousands of jobs in flight, every step recorded before the next.

The way in is `generate`: `prices` estimates, `backlog` lists what there is to do, `loop` runs an `engine` in a thread
that `interrupts` may end, `report` and `outstanding` say what came of it. In the engine, `buying` is a generation's
life before the provider accepted it and `delivery` after that, with `attempts` what one run knows of its POSTs and
`inputs` its local pictures. What may go, and when: `lease` is the run's right to act, `account` a free look first,
`freshness` a look whether the ledger is outdated; `admission`, `breaker` and `odd_prices` stop submitting,
`concurrency`, `rate_limiter` and `poll_schedule` pace it, `headroom`, `costs` and `file_budgets` are how a run waits
for headroom under its caps. `lookup` finds submissions in Segmind's history, `resolving` takes a person's word, `watching`
waits for other runs. `ports` are what it speaks through, `clock` the real time. What to do is decided in `planning`;
what an answer means, what history proves and what money allows, in `lifecycle`.
"""

from segmind_dagster.runner.generate import Batch, collect, generate, plan_set
from segmind_dagster.runner.report import ModelReport, Progress, RunReport

__all__ = ["Batch", "ModelReport", "Progress", "RunReport", "collect", "generate", "plan_set"]
