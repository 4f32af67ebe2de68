"""The one dynamic partitions definition: a partition is a prompt set, its key the file's stem."""

import dagster as dg

prompt_sets = dg.DynamicPartitionsDefinition(name="prompt_sets")
