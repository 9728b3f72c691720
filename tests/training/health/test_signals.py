"""Requests to stop or to save, by signal and by file."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from herdsman.training.health import signals
from herdsman.training.health.signals import StopRequests


def test_a_signal_is_noted_and_the_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        requests = StopRequests()
        assert requests.wanted() == (0.0, 0.0)
        os.kill(os.getpid(), number)
        assert requests.wanted() == (1.0, 0.0)
        assert requests.reason == number.name
        requests.close()
        assert signal.getsignal(signal.SIGTERM) is before


def test_files_ask_as_well_and_are_gone_once_done(tmp_path: Path) -> None:
    requests = StopRequests(tmp_path)
    (tmp_path / "SAVE").touch()
    assert requests.wanted() == (0.0, 1.0)
    requests.done()
    assert requests.wanted() == (0.0, 0.0)
    requests.close()
    assert not list(tmp_path.iterdir())
    requests = StopRequests(tmp_path)
    (tmp_path / "STOP").touch()
    assert requests.wanted() == (1.0, 0.0)
    assert requests.reason == "a file STOP"
    requests.close()
    assert signals.LOOK_SECONDS > 1  # storage shared by thousands of ranks is not asked at every step
    (tmp_path / "SAVE").touch()
    assert requests.wanted() == (1.0, 0.0)
