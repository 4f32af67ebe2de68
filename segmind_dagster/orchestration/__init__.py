"""Everything Dagster: the only package that imports it.

`build` composes, `partitions`, `resources` and `translator` name things, `assets` hold thin bodies, `metadata`
turns reports into what the UI shows and `failures` our errors, `checks` tell what is not as it should be, `sensors` and
`schedules` start runs. `asset_partitions` tells what a run is about, `loads` whether its rows came to the warehouse.
`local` runs it on one machine, `sync` brings partitions in step with files, `demo` runs it all once.
What a body does is decided elsewhere: in `runner`, `source` and `reports`.
"""

import warnings

# Dagster's own notes on features that are used here knowingly, with the version pinned; each process would repeat them
for _warning in (
    # a check has a result for each prompt set
    "Specifying a partitions_def on an AssetCheckSpec",
    # Dagster passes it on by itself when it binds resources to a sensor; nothing here sets it
    "Parameter `owners` of initializer `SensorDefinition",
):
    warnings.filterwarnings("ignore", message=_warning)
