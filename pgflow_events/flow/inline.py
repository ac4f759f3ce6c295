"""Limits the size of inline values, whatever the threshold of their step is.

The inputs of a task go to its worker as one jsonb, and so do the outputs of a run's leaf steps.
jsonb ends at 256 MiB, and its text at 1 GiB. JSON may need 6 times its length as jsonb (a list of
digits), and 47 times when the jsonb becomes text again (a list of floats such as 5e-324). So 16 MiB
of JSON always fit: half for the input of the run, half for outputs.
"""

from collections.abc import Mapping
from typing import Any

from pgflow_events.flow.flow import Flow, Step

# Bytes of JSON: for the input of a run, for the outputs that a step gets together, and for those
# that a run ends with. start_flows.sql and inline_limit.sql in sql/functions have the same limit.
LIMIT = 8 * 1024 * 1024

# Bytes of JSON: for the output of a map's task. The list of the outputs has all of them in one
# row, where SQL reads it as a whole: a hundred thousand take at most 50 MB.
OF_ELEMENT = 512


def thresholds(flow: Flow[Any]) -> Mapping[str, int]:
    """By step, the bytes beyond which its output is a blob: its threshold or its share of LIMIT."""
    steps = flow.steps.values()
    leaves = flow.steps.keys() - {slug for step in steps for slug in step.dependencies}
    # The largest number of outputs with which an output shares the limit, itself included.
    sharing = dict.fromkeys(leaves, len(leaves))
    for step in steps:
        for slug in step.dependencies:
            sharing[slug] = max(sharing.get(slug, 1), len(step.dependencies))
    of_flow = flow.options.blob_threshold or 0

    def limit(step: Step[Any]) -> int:
        own = step.options.blob_threshold
        most = OF_ELEMENT if step.is_map else LIMIT // sharing[step.slug]
        return min(of_flow if own is None else own, most)

    return {step.slug: limit(step) for step in steps}


def input_threshold(flow: Flow[Any]) -> int:
    """The bytes beyond which the input of a run becomes a blob."""
    return min(flow.options.blob_threshold or 0, LIMIT)


def has_only_nulls(value: Any) -> bool:
    """Whether this is a list with nothing to encrypt: of a map whose elements were all lost."""
    return isinstance(value, list) and not any(element is not None for element in value)
