"""Carries out a plan: one event loop, thousands of jobs in flight, every step recorded before the next.

`generate` is the way in. `work` holds the values; `engine` decides who may touch a generation; `buying` and `delivery`
are its life before and after the provider accepted it; `lease` is the run's right to act, `admission` and `breaker` what
stops submitting, `pacing` when requests are sent and polled, `headroom` and `costs` how a run waits for room under its
caps. `lookup` finds submissions in Segmind's history, `freshness` looks there before anything is bought, `resolving`
takes a person's word, `watching` waits for other runs. What to do is decided in `planning`; what an answer means, what
history proves and what money allows, in `lifecycle`.
"""

from segmind_dagster.runner.generate import Batch, collect, generate, plan_set
from segmind_dagster.runner.work import ModelReport, Progress, RunReport

__all__ = ["Batch", "ModelReport", "Progress", "RunReport", "collect", "generate", "plan_set"]
