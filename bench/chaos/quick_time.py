"""Lets a run expect jobs of a sandbox whose time runs faster: what is published of latencies is for real ones.

Without it a run waits a minute and more for the first look at a video that took seconds, and ten minutes before a job
of a model that it has never seen must be over.
"""

from __future__ import annotations

from functools import wraps

from segmind_dagster.runner import poll_schedule


def expect_quick_jobs(time_scale: float) -> None:
    """From now on in this process, published latencies and the poll deadline are multiplied.

    Args:
        time_scale: of the sandbox.
    """
    begin = poll_schedule.PollSchedule.__init__

    @wraps(begin)
    def begin_quickly(
        self: poll_schedule.PollSchedule,
        usual_s: float | None,
        *,
        is_measured: bool = False,
        longest_s: float | None = None,
    ) -> None:
        scaled_s = usual_s if is_measured or usual_s is None else usual_s * time_scale
        begin(self, scaled_s, is_measured=is_measured, longest_s=longest_s)

    poll_schedule.PollSchedule.__init__ = begin_quickly  # type: ignore[method-assign]
    poll_schedule.SHORTEST_DEADLINE_S *= time_scale
