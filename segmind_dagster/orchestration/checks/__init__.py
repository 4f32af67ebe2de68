"""The asset checks, one module an asset group (`models`, `prompt_sets`, `account`): when they are asked, and of what.

What they ask is in `ledger.check_reads` and `outputs.inspection`, what an answer means in `checks.outcomes`, how the
UI shows it in `results`. They read records and files; never the network, never the warehouse. Those of
models and prompt sets are partitioned and follow each materialization; the schedule `check_refresh` asks them again.
Those that time alone can turn red are not partitioned, and the automation sensor runs them once a day as well. The
checks of the reconciliation are not here: the step that compares answers them, in `assets.spend`.
"""

from typing import Final

from segmind_dagster.orchestration.checks.account import account_checks
from segmind_dagster.orchestration.checks.models import follow_up, model_checks, outputs_waiting
from segmind_dagster.orchestration.checks.prompt_sets import prompt_file_evaluation, prompt_set_checks

CHECKS: Final = (prompt_set_checks, model_checks, outputs_waiting, account_checks)

__all__ = ["CHECKS", "follow_up", "prompt_file_evaluation"]
