"""Sensors: they read recorded facts and files, never the network, and start or prepare runs."""

import dagster as dg

from segmind_dagster.errors import PromptSetError, SettingsError
from segmind_dagster.orchestration.partitions import prompt_sets
from segmind_dagster.orchestration.resources import SegmindResource


@dg.sensor(
    name="prompt_files",
    description="Keeps the partitions in step with the prompt files: one file, one prompt set, one partition.",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=15,
)
def prompt_files(context: dg.SensorEvaluationContext, segmind: SegmindResource) -> dg.SensorResult | dg.SkipReason:
    """Adds a partition for each new prompt file and removes those whose file is gone; rows and outputs stay."""
    try:
        requests, problems = partition_changes(context.instance, segmind)
    except (PromptSetError, SettingsError) as error:
        return dg.SkipReason(str(error))
    if not requests:
        return dg.SkipReason("; ".join(problems) or "Every prompt file has its partition.")
    for problem in problems:
        context.log.warning(problem)
    return dg.SensorResult(dynamic_partitions_requests=requests)


def partition_changes(
    instance: dg.DagsterInstance, segmind: SegmindResource
) -> tuple[list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest], list[str]]:
    """What would bring the partitions in step with the prompt files, and the problems of unusable files.

    Args:
        instance: which partitions exist.
        segmind: where the prompt files are.

    Raises:
        PromptSetError: the prompts folder cannot be read.
    """
    from segmind_dagster.prompts import scan_prompts

    folder = scan_prompts(segmind.load().prompts_dir)
    existing = set(instance.get_dynamic_partitions(prompt_sets.name or ""))
    # a file with a problem keeps its partition: what it held is not forgotten over a slip
    blamed = {problem.file.rsplit(".", 1)[0] for problem in folder.problems}
    added = sorted(set(folder.files) - existing)
    removed = sorted(existing - set(folder.files) - blamed)
    problems = [str(problem) for problem in folder.problems]
    if removed and not folder.files:
        # more likely a folder that is not mounted than a wish to forget every set
        removed = []
        problems.append("The prompts folder is empty: the partitions are kept until it holds a prompt file again.")
    requests: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest] = []
    if added:
        requests.append(prompt_sets.build_add_request(added))
    if removed:
        requests.append(prompt_sets.build_delete_request(removed))
    return requests, problems
