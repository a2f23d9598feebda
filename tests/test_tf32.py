"""What is called float32 is float32 on a GPU too."""

from __future__ import annotations

import pytest
import torch

from allfocus.train.tf32 import tf32


@pytest.mark.parametrize("allowed", [True, False])
def test_it_holds_within_and_is_put_back(allowed: bool) -> None:
    places = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    with tf32(allowed):
        assert [place.allow_tf32 for place in places] == [allowed, allowed]
    assert [place.allow_tf32 for place in places] == before
    with pytest.raises(KeyError), tf32(not before[0]):
        raise KeyError
    assert [place.allow_tf32 for place in places] == before
