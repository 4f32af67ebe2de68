"""The code location: `dagster dev` finds `defs` here. Nothing else belongs in this file."""

from segmind_dagster.orchestration.build import build_definitions

defs = build_definitions()
