"""A response that cannot be read is reported as that, whatever is wrong with it."""

from __future__ import annotations

import msgspec
import pytest
from persistasaurus.actors.remote.protocol import decode_response


@pytest.mark.parametrize("data", [b"", b"[]", b'{"kind":"\xbe"}', b'{"a":' * 5000, b'{"kind":1}'])
def test_an_answer_that_is_none_is_refused_with_the_error_that_is_promised(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_response(data)
