"""Which changes of form there are, and when one is out of the question."""

from collections.abc import Callable

from proxy.model import WHOLE, Form


def changed(
    body: bytes,
    have: Form,
    want: Form,
    *,
    trim: Callable[[bytes, Form, Form], bytes],
    fold: Callable[[bytes], bytes],
    unfold: Callable[[bytes, Form], bytes],
) -> bytes | None:
    """*body* in form *want*: as it is, trimmed (stream to stream), folded (to whole) or unfolded (to stream).

    The three say with a ValueError that the other form would need something invented, lost or guessed.
    """
    if have == want:
        return body
    # An option that we do not know may have shaped what is here, or would have shaped what is wanted.
    if have.other_options or want.other_options:
        return None
    try:
        match have.stream, want.stream:
            case True, True:
                # Padding against eavesdroppers is random; one who asked for it shall not get a stream without.
                return trim(body, have, want) if have.obfuscation or not want.obfuscation else None
            case True, False:
                return fold(body) if want == WHOLE else None
            case False, True:
                return unfold(body, want)
            case _:
                # Stream options on a whole answer: providers differ on whether that is an error.
                return None
    except (ValueError, RecursionError):
        return None
