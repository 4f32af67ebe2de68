"""Carries out a plan: one event loop, thousands of jobs in flight, every step recorded before the next.

The entry point is `generate`: `prices` estimates, `backlog` lists what to do, `loop` runs an `engine` in a thread that
`interrupts` may end, `report` and `outstanding` describe the outcome. In the engine, `buying` handles a generation
until the provider accepts it and `delivery` from then on; `attempts` holds what one run knows of its POSTs, `inputs`
uploads local pictures. Guards and limits: `lease` is the run's right to act, `account` checks key and balance first,
`freshness` whether the ledger is outdated; `admission`, `breaker` and `odd_prices` stop submitting; `concurrency`,
`rate_limiter` and `poll_schedule` pace it; `headroom`, `costs` and `file_budgets` are how a run waits under its caps.
`lookup` finds submissions in Segmind's history, `resolving` records a person's decisions, `watching` waits for other
runs. `ports` are the interfaces it uses, `clock` is the real time. What to do is decided in `planning`; what an answer
means, what history proves and what money allows, in `lifecycle`.
"""

from segmind_dagster.runner.generate import Batch, collect, generate, plan_set
from segmind_dagster.runner.report import ModelReport, Progress, RunReport

__all__ = ["Batch", "ModelReport", "Progress", "RunReport", "collect", "generate", "plan_set"]
