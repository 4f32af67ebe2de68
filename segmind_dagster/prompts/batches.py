"""Validated fields -> batches: what each prompt asks of each model, checked and not yet multiplied.

Here the layers meet: the set's fields, the parameters for one model, the prompt's own. Every rule that
depends on the models aimed at is applied here, so that all problems are known before anything expands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segmind_dagster.errors import RegistryError
from segmind_dagster.prompts.document import did_you_mean, listed
from segmind_dagster.prompts.parameters import Inputs, ParameterCheck
from segmind_dagster.prompts.placeholders import PlaceholderError, Template, is_placeholder_name, parse_template
from segmind_dagster.registry import MODELS, find_model
from segmind_dagster.registry.models import FAST_FLUX_SCHNELL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from segmind_dagster.prompts.document import Document, Location
    from segmind_dagster.prompts.fields import AskedModel, PromptFields, Sampling, SetFields
    from segmind_dagster.prompts.images import ImageReader
    from segmind_dagster.registry import Model

# asks Segmind for a seed of its own choice
RANDOM_SEED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptBatch:
    """Everything one prompt asks of one model.

    Args:
        model: the model.
        prompt: the text, with placeholders.
        negative_prompt: what to avoid, with placeholders; None when nothing is sent.
        variables: values of the placeholders used, in the order of the file.
        sampling: how many combinations to draw; None for all of them.
        seeds: one seed, several, or None for derived ones.
        samples: generations a combination.
        inputs: parameters and images.
        at: the prompt's place in the file.
    """

    model: Model
    prompt: Template
    negative_prompt: Template | None
    variables: Mapping[str, Sequence[str]]
    sampling: Sampling | None
    seeds: int | tuple[int, ...] | None
    samples: int
    inputs: Inputs
    at: Location

    @property
    def combinations(self) -> int:
        """How many combinations of the variables there are."""
        return math.prod(len(values) for values in self.variables.values())

    @property
    def size(self) -> int:
        """How many generations the batch asks for."""
        drawn = min(self.combinations, self.sampling.count) if self.sampling else self.combinations
        return drawn * (len(self.seeds) if isinstance(self.seeds, tuple) else self.samples)


def build_batches(
    fields: SetFields, *, skipped: frozenset[int], document: Document, images: ImageReader
) -> tuple[PromptBatch, ...]:
    """Every batch of a prompt set, in file order.

    Args:
        fields: the set's validated fields.
        skipped: numbers of prompts known to be faulty.
        document: takes the problems.
        images: resolves image inputs.

    Returns:
        The batches; only to be expanded when the document holds no problems.
    """
    builder = _Builder(fields, document=document, images=images)
    batches = [
        batch
        for index, prompt in enumerate(fields.prompts)
        if index not in skipped
        for batch in builder.batches_of(prompt, ("prompts", index))
    ]
    builder.complain_of_missing()
    if not skipped:
        builder.complain_of_unused()
    return tuple(batches)


class _Builder:
    """Keeps what all prompts of a set share, so that each is checked once and not for every prompt."""

    def __init__(self, fields: SetFields, *, document: Document, images: ImageReader) -> None:
        self._fields = fields
        self._document = document
        self._check = ParameterCheck(document=document, images=images)
        self._variables = self._named(fields.variables, ("variables",))
        self._used_variables: set[str] = set()
        self._asked: dict[str, AskedModel] = {}
        self._is_use_known = True
        self._shared: dict[str, Inputs] = {}
        self._missing: dict[tuple[str, str], list[Location]] = {}
        self._models = self._found(fields.models, ("models",)) if fields.models else [FAST_FLUX_SCHNELL]
        for asked in fields.models or ():
            self._keep_params(asked)

    def batches_of(self, prompt: PromptFields, at: Location) -> list[PromptBatch]:
        models = self._found(prompt.models, (*at, "models")) if prompt.models else self._models
        own_variables = self._named(prompt.variables, (*at, "variables"))
        variables = {**self._variables, **own_variables}
        template = self._template(prompt.prompt.strip(), variables, (*at, "prompt"))
        if template == Template(("",)):
            self._document.complain("the prompt is empty; write what to generate", (*at, "prompt"))
        seeds, samples = self._seeds_and_samples(prompt, at)
        used = set(template.names) if template else set()
        batches = []
        for model in models:
            negative = self._negative_prompt(prompt, model, variables, at)
            used |= negative.names if negative else frozenset()
            inputs = self._inputs(prompt, model, at)
            self._check_seeds(seeds, samples, model, (*at, "seed") if prompt.seed is not None else ("seed",))
            for parameter in inputs.missing_for(model):
                self._missing.setdefault((model.resource, parameter.name), []).append(at)
            if template is not None:
                names = template.names | (negative.names if negative else frozenset())
                batch = PromptBatch(
                    model=model,
                    prompt=template,
                    negative_prompt=negative,
                    variables={name: values for name, values in variables.items() if name in names} if names else {},
                    sampling=self._fields.sampling,
                    seeds=seeds,
                    samples=samples,
                    inputs=inputs,
                    at=at,
                )
                batches.append(batch)
        self._used_variables |= used - own_variables.keys()
        if models and template is not None:
            for name in sorted(own_variables.keys() - used):
                self._document.complain(
                    f"the prompt does not use the variable {name!r}; write {{{name}}} in it, or remove the variable",
                    (*at, "variables", name),
                )
        return batches

    def complain_of_missing(self) -> None:
        for (resource, name), places in self._missing.items():
            first_image = next((parameter.name for parameter in find_model(resource).image_parameters), None)
            how = f"give {'`image`, or ' if name == first_image else ''}`{name}` in `params`".replace("`", "'")
            who = (
                "this prompt gives"
                if len(places) == 1
                else f"{len(places):,} prompts, of which this is the first, give"
            )
            self._document.complain(f"{resource} needs {name!r}, and {who} none; {how}", places[0])

    def complain_of_unused(self) -> None:
        if not self._is_use_known:
            return
        for name in sorted(self._variables.keys() - self._used_variables):
            self._document.complain(
                f"no prompt uses the variable {name!r}; write {{{name}}} in a prompt, or remove the variable",
                ("variables", name),
            )

    def _found(self, asked: Sequence[AskedModel], at: Location) -> list[Model]:
        models: dict[str, Model] = {}
        for entry in asked:
            try:
                model = find_model(entry.name)
            except RegistryError:
                names = [name for model in MODELS for name in (model.resource, model.slug)]
                self._document.complain(
                    f"there is no model {entry.name[:100]!r}.{did_you_mean(entry.name, names)} "
                    f"Models are: {listed(model.resource for model in MODELS)}",
                    (*at, entry.key),
                )
                self._is_use_known = False
                continue
            if model.resource in models:
                self._document.complain(f"{model.resource} is named twice; name it once", (*at, entry.key))
            models[model.resource] = model
        return list(models.values())

    def _keep_params(self, asked: AskedModel) -> None:
        try:
            model = find_model(asked.name)
        except RegistryError:
            return
        self._asked[model.resource] = asked
        # checked although every prompt may name other models: a mistake should not wait until one is aimed here
        self._params_of(asked, model)

    def _params_of(self, asked: AskedModel, model: Model) -> Inputs:
        params = {name: value for name, value in asked.params.items() if name != "negative_prompt"}
        return self._check.parameters(params, model=model, at=("models", asked.key))

    def _named(self, variables: Mapping[str, Sequence[str]] | None, at: Location) -> dict[str, Sequence[str]]:
        for name in variables or ():
            if not is_placeholder_name(name):
                self._document.complain(
                    f"{name[:100]!r} cannot be a placeholder; use letters, digits, '_' and '-', a letter first",
                    (*at, name),
                )
        return dict(variables or {})

    def _template(self, text: str, variables: Mapping[str, Sequence[str]], at: Location) -> Template | None:
        try:
            template = parse_template(text)
        except PlaceholderError as error:
            self._document.complain(str(error), at)
            self._is_use_known = False
            return None
        for name in sorted(template.names - variables.keys()):
            self._document.complain(
                f"the placeholder {{{name}}} has no variable.{did_you_mean(name, variables)} "
                f"Add {name!r} to 'variables', or write '{{{{{name}}}}}' for literal braces",
                at,
            )
        return template

    def _negative_prompt(
        self, prompt: PromptFields, model: Model, variables: Mapping[str, Sequence[str]], at: Location
    ) -> Template | None:
        """The nearest negative prompt: the prompt's own, the model's, the set's; an empty one means none."""
        asked = self._asked.get(model.resource)
        own_text = asked.params.get("negative_prompt") if asked else None
        if prompt.negative_prompt is not None:
            text, place = prompt.negative_prompt, (*at, "negative_prompt")
        elif asked and own_text is not None:
            place = ("models", asked.key, "negative_prompt")
            if not isinstance(own_text, str):
                self._document.complain("must be a text; put it in quotes if it is meant as one", place)
                return None
            text = own_text
        else:
            text, place = self._fields.negative_prompt or "", ("negative_prompt",)
        if not text.strip():
            return None
        if model.is_schema_published and "negative_prompt" not in model.parameter_names:
            self._document.complain(
                f"{model.resource} takes no negative prompt; give it only to models that do, with "
                "'models: {<model>: {negative_prompt: ...}}'",
                place,
            )
            return None
        return self._template(text.strip(), variables, place)

    def _inputs(self, prompt: PromptFields, model: Model, at: Location) -> Inputs:
        if model.resource not in self._shared:
            self._shared[model.resource] = self._shared_inputs(model)
        inputs = self._shared[model.resource]
        if prompt.image is not None:
            self._complain_if_twice(prompt.params, model, (*at, "params"))
            inputs = inputs.overridden_by(self._check.image(prompt.image, model=model, at=(*at, "image")))
        if prompt.params:
            own = self._check.parameters(prompt.params, model=model, at=(*at, "params"))
            inputs = inputs.overridden_by(own)
        return inputs

    def _shared_inputs(self, model: Model) -> Inputs:
        inputs = Inputs()
        if self._fields.image is not None:
            self._complain_if_twice(self._fields.defaults, model, ("defaults",))
            inputs = self._check.image(self._fields.image, model=model, at=("image",))
        if self._fields.defaults:
            defaults = self._check.parameters(self._fields.defaults, model=model, at=("defaults",))
            inputs = inputs.overridden_by(defaults)
        if model.resource in self._asked:
            inputs = inputs.overridden_by(self._params_of(self._asked[model.resource], model))
        return inputs

    def _complain_if_twice(self, params: Mapping[str, object] | None, model: Model, at: Location) -> None:
        first = model.image_parameters[0].name if model.image_parameters else None
        if params and first is not None and first in params:
            self._document.complain(
                f"'image' gives {model.resource} the same image as {first!r}; keep one", (*at, first)
            )

    def _seeds_and_samples(self, prompt: PromptFields, at: Location) -> tuple[int | tuple[int, ...] | None, int]:
        seeds = prompt.seed if prompt.seed is not None else self._fields.seed
        samples = prompt.samples or self._fields.samples or 1
        if isinstance(seeds, tuple) and samples > 1:
            self._document.complain(
                f"{samples} samples of a list of seeds cannot be: a list makes one generation for each seed; leave out "
                "'samples', or give one seed",
                (*at, "samples") if prompt.samples else ("samples",),
            )
        return seeds, samples

    def _check_seeds(self, seeds: int | tuple[int, ...] | None, samples: int, model: Model, at: Location) -> None:
        parameter = model.parameter(model.seed_parameter) if model.seed_parameter else None
        if seeds is None or parameter is None:
            return
        last = seeds + samples - 1 if isinstance(seeds, int) else None
        for seed in seeds if isinstance(seeds, tuple) else (seeds, last):
            complaint = parameter.complaint(seed)
            if complaint:
                self._document.complain(f"{complaint} ({model.resource})", at)
                return
