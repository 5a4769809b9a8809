"""Verdicts as JSON, the form the spool keeps."""

from __future__ import annotations

import json

from fusion.types import Verdict


def verdict_json(verdict: Verdict) -> str:
    """A verdict without its id: `slots` {name: {option, probabilities}}, `uncertain lanes reviewer prompt_sha256`."""
    slots = {
        name: {
            "option": answer.option,
            "probabilities": {option: round(float(p), 6) for option, p in sorted(answer.probabilities.items())},
        }
        for name, answer in sorted(verdict.slots.items())
    }
    values = {
        "slots": slots,
        "uncertain": verdict.uncertain,
        "lanes": list(verdict.lanes),
        "reviewer": verdict.reviewer,
        "prompt_sha256": verdict.prompt_sha256,
    }
    return json.dumps(values, separators=(",", ":"))
