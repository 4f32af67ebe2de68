"""What was generated and spent, over `dlt.pipeline("segmind").dataset()`: `make notebook`.

Reads the warehouse of the last load, whichever destination that was, and the stored outputs. It writes nothing and
asks Segmind nothing.
"""

import marimo

app = marimo.App(width="medium", app_title="segmind-dagster")


@app.cell
def _():
    import base64
    import io

    import altair as alt
    import dlt
    import fsspec
    import marimo as mo
    import pandas as pd
    from PIL import Image

    return Image, alt, base64, dlt, fsspec, io, mo, pd


@app.cell
def _(dlt, mo):
    pipeline = dlt.pipeline("segmind")
    mo.stop(
        pipeline.destination is None or "attempts" not in pipeline.default_schema.tables,
        mo.callout(mo.md("Nothing has been loaded yet: run `make demo`, or materialize a prompt set."), kind="warn"),
    )
    dataset = pipeline.dataset()
    # a table of generations, as opposed to attempts or summaries
    models = sorted(
        name
        for name in dataset.tables
        if {"generation_id", "prompt_set", "output_uri"} <= set(dataset.schema.tables[name]["columns"])
    )
    mo.md(
        f"# What was generated, and what it cost\n\nDataset `{dataset.dataset_name}`: {', '.join(models)}, `attempts`"
    )
    return dataset, models


@app.cell
def _(dataset, mo, models):
    # each query opens the warehouse and closes it again, so that loads are not kept waiting
    attempts = dataset("SELECT * FROM attempts").df()
    columns = (
        "prompt_set, generation_id, model, prompt, seed, status, failure_kind, cost_usd, is_reused, is_current, "
        "output_uri, output_format, latency_ms"
    )
    generations = dataset(" UNION ALL ".join(f"SELECT {columns} FROM {name}" for name in models)).df()
    sets = sorted(generations["prompt_set"].unique())
    mo.stop(
        not sets,
        mo.callout(mo.md("The tables are there and hold no rows yet: materialize a prompt set."), kind="warn"),
    )
    return attempts, generations, sets


@app.cell
def _(attempts, mo, pd):
    def usage(of):
        """Counts and money of some attempts; a cost that nobody knows yet is counted, not guessed."""
        return pd.Series(
            {
                "POSTs": len(of),
                "succeeded": (of["status"] == "succeeded").sum(),
                "failed": (of["status"] == "failed").sum(),
                "spent, USD": of["cost_usd"].astype(float).sum(),
                "cost unknown": (of["cost_usd"].isna() & ~of["status"].isin(["failed", "succeeded"])).sum(),
                "median, s": of["latency_ms"].median() / 1000,
            }
        )

    by_model = attempts.groupby("model").apply(usage, include_groups=False).reset_index()
    mo.vstack(
        [
            mo.md(
                "## Usage by model\n\nMoney is summed over `attempts`, one row for each POST: nothing is counted twice."
            ),
            mo.ui.table(by_model, selection=None, format_mapping={"spent, USD": "{:.4f}", "median, s": "{:.2f}"}),
        ]
    )
    return (by_model,)


@app.cell
def _(alt, attempts, by_model, mo):
    spend = (
        alt.Chart(by_model)
        .mark_bar()
        .encode(
            x=alt.X("spent, USD:Q"),
            y=alt.Y("model:N", sort="-x", title=None),
            tooltip=["model", "POSTs", "spent, USD"],
        )
        .properties(title="Spend by model", width=600)
    )
    done = attempts.dropna(subset=["latency_ms"]).assign(seconds=lambda rows: rows["latency_ms"].astype(float) / 1000)
    latency = (
        alt.Chart(done[["model", "seconds"]])
        .mark_boxplot(extent="min-max")
        .encode(x=alt.X("seconds:Q", title="from our POST to the stored output, s"), y=alt.Y("model:N", title=None))
        .properties(title="Latency", width=600)
    )
    mo.vstack([spend, latency])


@app.cell
def _(mo, sets):
    chosen = mo.ui.dropdown(sets, value=sets[0], label="prompt set")
    mo.vstack([mo.md("## Pictures of a prompt set"), chosen])
    return (chosen,)


@app.cell
def _(Image, base64, chosen, fsspec, generations, io, mo):
    def thumbnail(uri):
        """A small JPEG as a data URL, from a folder or a bucket."""
        with fsspec.open(uri, "rb") as file, Image.open(file) as picture:
            picture.thumbnail((240, 240))
            small = io.BytesIO()
            picture.convert("RGB").save(small, "JPEG", quality=80)
        return f"data:image/jpeg;base64,{base64.b64encode(small.getvalue()).decode()}"

    def card(row):
        """A picture with what made it, or the reason why there is none."""
        if row["output_format"] not in {"jpeg", "png", "webp", "gif"}:
            what = row["failure_kind"] or row["output_format"] or row["status"]
            picture = mo.callout(what, kind="danger" if row["failure_kind"] else "neutral")
        else:
            try:
                picture = mo.image(thumbnail(row["output_uri"]), alt=row["prompt"], width=200)
            except OSError as error:
                picture = mo.callout(f"the file cannot be read: {error}", kind="warn")
        return mo.vstack([picture, mo.plain_text(f"{row['model']}\n{' '.join(row['prompt'].split())[:60]}")], gap=0.2)

    of_set = generations[(generations["prompt_set"] == chosen.value) & generations["is_current"].astype(bool)]
    shown = of_set.head(24)
    mo.vstack(
        [
            mo.md(f"{len(shown)} of {len(of_set)}"),
            mo.hstack([card(row) for row in shown.to_dict("records")], wrap=True, justify="start"),
        ]
    )


if __name__ == "__main__":
    app.run()
