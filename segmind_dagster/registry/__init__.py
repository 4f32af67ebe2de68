"""What can be called: one declarative entry a model, and what each usually costs.

`model` holds the value types, `models` the entries, `catalogue` the dated prices and latencies.
Nothing here speaks HTTP, reads prompt files or knows about Dagster.
"""

from segmind_dagster.registry.catalogue import Catalogue, CatalogueEntry, bundled_catalogue
from segmind_dagster.registry.model import ApiVersion, Model, OutputKind, Parameter
from segmind_dagster.registry.models import MODELS, find_model, recorded_model

__all__ = [
    "MODELS",
    "ApiVersion",
    "Catalogue",
    "CatalogueEntry",
    "Model",
    "OutputKind",
    "Parameter",
    "bundled_catalogue",
    "find_model",
    "recorded_model",
]
