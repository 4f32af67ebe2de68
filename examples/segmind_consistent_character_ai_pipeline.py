"""The pipeline of dlt's own page on Segmind, under its own names, doing what it promises.

Run it from the project's root with a key, or against `segmind-dagster sandbox` without one:

    python examples/segmind_consistent_character_ai_pipeline.py

The key comes from SEGMIND_API_KEY, or from `.dlt/secrets.toml` under `[sources.segmind]` or
`[sources.segmind_consistent_character_ai_source]`. A second run generates nothing again.
"""

import sys

import dlt
from dlt.pipeline.exceptions import PipelineStepFailed

from segmind_dagster.source import segmind_source

PIPELINE = "segmind_consistent_character_ai_pipeline"
DATASET = "segmind_consistent_character_ai_data"
RESOURCES = ("consistent_character_neolemon_v2", "fast_flux_schnell")


def get_data() -> None:
    """Generate what two prompt sets ask of two models, and load one table for each model."""
    pipeline = dlt.pipeline(pipeline_name=PIPELINE, destination="duckdb", dataset_name=DATASET)
    source = segmind_source(prompt_sets=["portraits", "wildlife"], models=list(RESOURCES))
    load_info = pipeline.run(source.with_resources(*RESOURCES, "attempts"))
    print(load_info)


def show_data() -> None:
    """Ask the loaded data in Python and in SQL."""
    data = dlt.pipeline(PIPELINE).dataset()
    sessions_df = data.consistent_character_neolemon_v2.df()
    print(sessions_df.head())
    limited = data(f"SELECT * FROM {DATASET}.consistent_character_neolemon_v2 LIMIT 10")  # noqa: S608  a constant
    print(limited.df()[["prompt", "status", "cost_usd", "output_uri"]])


if __name__ == "__main__":
    try:
        get_data()
    except PipelineStepFailed as error:
        # dlt tells where it failed; what to do stands in the error inside it
        sys.exit(str(error.__cause__ or error))
    show_data()
