"""Media in bulk through Segmind's paid API, with Dagster and dlt: pay once, lose nothing, know the cost.

The flow, and the package that holds each step:

    prompts        1  files to values: one file, one prompt set, one partition
    lifecycle      -  states, failure kinds, next steps, what history proves and what money allows; pure
    planning       2  values, what the ledger knows and the caps, to decisions with reasons; pure
    gateway        3  the HTTP of generation: submit, poll, fetch, and what an answer means
    ledger         4  what was asked, spent and received, durable before and after each step
    outputs        4  the bytes: verified, written whole or not at all
    runner       3+4  carries out a plan
    source         5  the dlt source over settled ledger rows, its pipeline and the load lock
    recovery       -  gives a lost ledger back, from outputs, history and warehouse
    reports        6  rows to answers
    checks         6  rules of the asset checks and their wording; pure
    export         6  a prompt set as a dataset for others
    orchestration  7  assets, sensors, schedules: the only package that imports Dagster

`registry` says what can be called, `settings` where and with which limits, `sandbox` is a local Segmind; `cli` and
`commands` are the command line.
Imports go down only: errors; settings, registry; lifecycle; prompts, ledger, gateway, outputs; planning, data_folder;
runner; source; recovery, reports, export; checks; orchestration; definitions, cli, commands. `sandbox` stands apart.
Only `source` and `reports` import dlt, only `gateway` and `source` speak HTTP, only `ledger` knows SQLAlchemy. A test
holds these rules.
"""
