"""The form that a request asks for."""

from proxy import canonical
from proxy.model import WHOLE, Form, Json


def asked_form(request: Json, *, include_usage: bool = False, include_obfuscation: bool = False) -> Form:
    """The form of *request*; the flags say which ``stream_options`` its endpoint documents.

    Whatever a provider may understand otherwise than we do (an unknown option, a ``stream`` that is no boolean) goes
    into ``other_options``: it stays out of the key with the rest of the form, so it has to separate here.
    """
    stream = request.get("stream")
    options = request.get("stream_options")
    if options is None and (stream is None or stream is False):
        return WHOLE
    odd: dict[str, object] = {} if stream is None or isinstance(stream, bool) else {"stream": stream}
    known: dict[str, bool] = {}
    if isinstance(options, dict):
        documented = {"include_usage": include_usage, "include_obfuscation": include_obfuscation}
        for name, value in options.items():
            if isinstance(value, bool) and documented.get(name):
                known[name] = value
            else:
                odd[f"stream_options.{name}"] = value
    elif options is not None:
        odd["stream_options"] = options
    return Form(
        stream=stream is True,
        include_usage=known.get("include_usage", False),
        obfuscation=known.get("include_obfuscation", True),
        other_options=_spelled(odd) if odd else "",
    )


def _spelled(odd: dict[str, object]) -> str:
    match canonical.write(odd):
        case bytes() as text:
            return text.decode()
        case unfit:
            # Nothing parsed as JSON comes here: what nests too deep to be written was too deep to be read.
            return unfit.reason
