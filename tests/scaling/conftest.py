from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from herdsman.documents.mix_options import MixOptions
from tests.scaling.herd import lay_herd


@pytest.fixture(scope="session")
def herd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Workspace with data stages; what is trained in it stays for the session. One thread: models are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("herd")
    lay_herd(root, MixOptions())
    yield root
    torch.set_num_threads(threads)
