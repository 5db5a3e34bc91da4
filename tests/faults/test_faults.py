"""`up` and `down` end where they end on a good day, whatever the network and the services do to single calls.

Two of the troubles of `scripts/bench/faults.py`: the nastiest, and all of them together, with less latency and
seldomer, since half of all calls fail there, and the time goes into waiting before the next try.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from env_on_cloud import Fault, Lost, Reset, Throttle, WarmCommand
from faults import TROUBLES, Ending, meet_all, undisturbed

LATENCY_S = 0.02
SAMPLE: Mapping[str, Sequence[Fault]] = {
    "lost-answers": TROUBLES["lost-answers"],
    "all": (Throttle(every=9), Reset(every=11), Lost(every=13)),
}


@pytest.fixture(scope="module")
def endings(endpoint: str, warm: WarmCommand, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Ending]:
    home = tmp_path_factory.mktemp("operator")
    calm, shape = undisturbed(endpoint, warm, home)
    met = meet_all(SAMPLE, LATENCY_S, endpoint=endpoint, home=home, wanted=shape)
    return {ending.trouble: ending for ending in [calm, *met]}


@pytest.mark.parametrize("trouble", SAMPLE)
def test_up_and_down_reach_the_same_end_state_through(endings: Mapping[str, Ending], trouble: str) -> None:
    assert endings[trouble].failure == ""
    for command, requests in endings["none"].requests.items():
        assert endings[trouble].requests[command] > requests, "every call that failed was made again"
