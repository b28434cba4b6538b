from __future__ import annotations

import json

from hilum.auditing.clues import measure_clues
from hilum.auditing.quick_model import Study, make_study
from looks_made import make_looks


def test_every_clue_is_given_against_the_picture() -> None:
    samples, looks, _ = make_looks(100)
    study = make_study(samples, samples["label"], most=None)
    assert isinstance(study, Study)
    found = measure_clues(samples, looks, study).to_dict()
    names = [clue["name"] for clue in found["clues"]]
    assert names == [
        *("file_size", "border"),
        *(
            f"corner:{place}"
            for place in ("upper left", "upper right", "lower left", "lower right")
        ),
        *("centre_hidden", "thumbnail"),
    ]
    assert found["picture"]["value"] > 0.9
    by_name = {clue["name"]: clue for clue in found["clues"]}
    assert by_name["thumbnail"]["auroc"]["value"] > 0.8
    assert by_name["border"]["auroc"]["ci_low"] < 0.55
    assert set(by_name["border"]["auroc"]) == {"value", "ci_low", "ci_high", "n"}
    json.dumps(found)
