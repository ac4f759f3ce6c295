"""How large values may be that stand in a row, whatever the threshold says.

The inputs of a task go to its worker as one jsonb, and the outputs of a run's leaf steps are one
too. jsonb ends at 256 MiB, and its text at 1 GiB. A JSON may need 6 times its length as jsonb (a
list of digits) and 47 times when that becomes text again (a list of floats such as 5e-324): 16 MiB
of JSON, half of it the input of the run, always have room.
"""

from collections.abc import Mapping
from typing import Any

from pgflow_events.flow.flow import Flow

# Bytes of JSON: for the input of a run, for what a step gets of its dependencies, for what a run
# ends with. The same is in sql/functions: start_flows.sql, inline_limit.sql.
LIMIT = 8 * 1024 * 1024


def thresholds(flow: Flow[Any]) -> Mapping[str, int]:
    """The bytes beyond which an output becomes a blob, by step: its threshold, or its part."""
    steps = flow.steps.values()
    leaves = flow.steps.keys() - {slug for step in steps for slug in step.dependencies}
    # With how many others an output stands together at most.
    sharing = dict.fromkeys(leaves, len(leaves))
    for step in steps:
        for slug in step.dependencies:
            sharing[slug] = max(sharing.get(slug, 1), len(step.dependencies))
    of_flow = flow.options.blob_threshold or 0
    wanted = {step.slug: step.options.blob_threshold for step in steps}
    return {
        slug: min(of_flow if own is None else own, LIMIT // sharing[slug])
        for slug, own in wanted.items()
    }


def input_threshold(flow: Flow[Any]) -> int:
    """The bytes beyond which the input of a run becomes a blob."""
    return min(flow.options.blob_threshold or 0, LIMIT)
