"""The configured key, whatever its form, is in nothing that a run writes or says, also when the provider repeats it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from lab.project import V1, V2

from segmind_dagster.sandbox import answers, submissions

ODD_KEY = "pk/live+9zQ=7"
SAID = (
    f"bad key {ODD_KEY}, {quote(ODD_KEY, safe='')}, {ODD_KEY.upper()}, x-api-key: {ODD_KEY}, "
    f"Basic {base64.b64encode(f'{ODD_KEY}:'.encode()).decode()}, https://u:{quote(ODD_KEY, safe='')}@h/x?k={ODD_KEY}"
)


@pytest.mark.parametrize("model", [V1, V2])
def test_a_key_repeated_in_an_error_is_stored_nowhere(
    open_lab: Any, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    lab = open_lab(api_key=ODD_KEY)
    check = submissions._check_parameters

    def refuse(state: Any, version: str, offer: Any, body: Any) -> Any:
        if "bad" not in body.get("prompt", ""):
            return check(state, version, offer, body)
        return answers.error_answer(406, SAID) if version == "v1" else SAID

    monkeypatch.setattr(submissions, "_check_parameters", refuse)
    report = lab.generate(lab.write("fruit", ["bad pear", "apple"], models=[model]))
    assert sorted(report.models[0].endings) == ["failed", "succeeded"]
    kept = [path for path in Path(lab.folder, "data").rglob("*") if path.is_file()]
    assert kept
    hidden = [ODD_KEY, ODD_KEY.upper(), quote(ODD_KEY, safe=""), base64.b64encode(ODD_KEY.encode()).decode()[:16]]
    for secret in hidden:
        assert secret not in repr(report)
        assert not [path for path in kept if secret.encode() in path.read_bytes()]
    assert "[hidden]" in str(report.models[0].examples)
