"""Batches -> generations: combinations, seeds, bodies and identities.

Pure: the same batches give the same generations everywhere. Nothing about a request depends on its
position, except in the field for it.
"""

from __future__ import annotations

import itertools
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from segmind_dagster.lifecycle.generation import Generation
from segmind_dagster.prompts.batches import RANDOM_SEED
from segmind_dagster.prompts.fields import MAX_GENERATIONS
from segmind_dagster.prompts.identity import derived_seed, generation_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from segmind_dagster.prompts.batches import PromptBatch
    from segmind_dagster.prompts.document import Document
    from segmind_dagster.prompts.fields import Sampling
    from segmind_dagster.registry import Model

MAX_PROMPT_CHARS = 20_000
_MANY = 10**12


def expand(batches: Iterable[PromptBatch], *, key: str, document: Document) -> tuple[Generation, ...]:
    """Every generation that batches ask for; of equal ones only the first.

    Args:
        batches: from `build_batches`, without problems.
        key: the prompt set's.
        document: takes the problems that only filled-in prompts show.
    """
    generations: dict[str, Generation] = {}
    for batch in batches:
        _expand_batch(batch, generations, key=key, document=document)
    return tuple(generations.values())


def check_size(batches: Sequence[PromptBatch], document: Document) -> None:
    """Note a problem when batches ask for more generations than a set may hold.

    Args:
        batches: every batch of the set.
        document: takes the problem.
    """
    total = sum(batch.size for batch in batches)
    if total <= MAX_GENERATIONS:
        return
    largest = max(batches, key=lambda batch: batch.size)
    factors = [f"{name} ({len(values):,})" for name, values in largest.variables.items()]
    if largest.samples > 1:
        factors.append(f"samples ({largest.samples:,})")
    if isinstance(largest.seeds, tuple):
        factors.append(f"seeds ({len(largest.seeds):,})")
    # a number of thousands of digits is of no use, and Python refuses to print it
    shown = f"{total:,}" if total < _MANY else f"more than {_MANY:,}"
    models = len({batch.model.resource for batch in batches})
    multiplied = f"the largest prompt multiplies {' x '.join(factors)}" if factors else f"{len(batches):,} prompts"
    document.complain(
        f"the set asks for {shown} generations, and {MAX_GENERATIONS:,} is the most: {multiplied}, for {models} "
        f"model{'s' if models > 1 else ''}. Use 'sampling', fewer values, or several prompt sets",
        largest.at,
    )


def combinations(
    variables: Mapping[str, Sequence[str]], sampling: Sampling | None, text: str
) -> Iterator[tuple[str, ...]]:
    """The combinations of variable values to use, the last variable changing fastest.

    Args:
        variables: the values of each variable.
        sampling: how many combinations to draw; None for all.
        text: what the draw is for, so that prompts draw independently of each other.
    """
    lists = [tuple(values) for values in variables.values()]
    total = 1
    for values in lists:
        total *= len(values)
    if sampling is None or sampling.count >= total:
        yield from itertools.product(*lists)
        return
    # hashed rather than `random`, whose algorithms may change: a new Python must not buy other pictures
    drawn: set[int] = set()
    for attempt in itertools.count():
        digest = sha256(f"{sampling.seed}\n{attempt}\n{text}".encode()).digest()
        drawn.add(int.from_bytes(digest) % total)
        if len(drawn) == sampling.count:
            break
    for number in sorted(drawn):
        rest = number
        chosen = []
        for values in reversed(lists):
            rest, index = divmod(rest, len(values))
            chosen.append(values[index])
        yield tuple(reversed(chosen))


def _expand_batch(batch: PromptBatch, generations: dict[str, Generation], *, key: str, document: Document) -> None:
    model, inputs = batch.model, batch.inputs
    digests = {name: image.sha256 or "" for name, image in inputs.images.items()}
    for values in combinations(batch.variables, batch.sampling, "\0".join(batch.prompt.parts)):
        variables = dict(zip(batch.variables, values, strict=True))
        prompt = batch.prompt.render(variables).strip()
        if not _is_usable(prompt, batch, document):
            return
        parameters = dict(inputs.values)
        negative = batch.negative_prompt.render(variables).strip() if batch.negative_prompt else ""
        if negative:
            parameters["negative_prompt"] = negative
        for seed, sample in _seeds(batch, prompt, parameters, digests):
            body = _body(model, prompt, parameters, seed)
            identity = generation_id(model.slug, body, digests, sample)
            if identity in generations:
                continue
            generations[identity] = Generation(
                generation_id=identity,
                prompt_set=key,
                model=model,
                prompt=prompt,
                negative_prompt=negative or None,
                body=body,
                images=inputs.images,
                seed=seed,
                sample=sample,
                variables=variables,
                position=len(generations),
            )


def _is_usable(prompt: str, batch: PromptBatch, document: Document) -> bool:
    at = (*batch.at, "prompt")
    if not prompt:
        document.complain("the prompt is empty once its placeholders are filled in", at)
    elif len(prompt) > MAX_PROMPT_CHARS:
        document.complain(
            f"the prompt has {len(prompt):,} characters, and {MAX_PROMPT_CHARS:,} is the most; shorten it", at
        )
    return 0 < len(prompt) <= MAX_PROMPT_CHARS


def _body(model: Model, prompt: str, parameters: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
    is_chat = model.prompt_parameter == "messages"
    text: Any = [{"role": "user", "content": prompt}] if is_chat else prompt
    body = {model.prompt_parameter: text, **parameters}
    if model.seed_parameter is not None:
        body[model.seed_parameter] = seed
    return body


def _seeds(
    batch: PromptBatch, prompt: str, parameters: Mapping[str, Any], digests: Mapping[str, str]
) -> Iterator[tuple[int | None, int]]:
    """Seed and sample number of each generation of one combination."""
    if isinstance(batch.seeds, tuple):
        for seed in batch.seeds:
            yield (seed if batch.model.seed_parameter else None), 0
        return
    for sample in range(batch.samples):
        if batch.model.seed_parameter is None:
            yield None, sample
        elif batch.seeds is None:
            yield derived_seed(prompt, parameters, digests, sample), sample
        else:
            # counting on from "choose for me" would leave only the first sample random
            yield (batch.seeds if batch.seeds == RANDOM_SEED else batch.seeds + sample), sample
