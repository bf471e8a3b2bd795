"""An engine's processes meet on loopback, for the address of a machine's name may be open to a whole network."""

import pytest

from gpo_lightning.engines.vllm import child_environment

CHOSEN = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def test_processes_of_one_machine_meet_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CHOSEN:
        monkeypatch.delenv(name, raising=False)
    alone, spread = child_environment(), child_environment(spread=True)
    assert {alone[name] for name in CHOSEN} == {"lo"}
    assert alone["VLLM_HOST_IP"] == "127.0.0.1"
    assert not {*CHOSEN, "VLLM_HOST_IP"} & spread.keys()


def test_what_the_user_has_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOSEN[0], "eth7")
    assert CHOSEN[0] not in child_environment()
