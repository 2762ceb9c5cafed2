"""The door of this package: counts prompts and answers of every endpoint, whatever JSON they are."""

from collections.abc import Mapping
from functools import cache, partial

from proxy.accounts.usage import Method
from proxy.tokens import answer as answers
from proxy.tokens import prompt as prompts
from proxy.tokens.count import Count
from proxy.tokens.encodings import Tokenizers
from proxy.tokens.families import Model, model_of
from proxy.tokens.prompt import Endpoint, Tally


class TokenCounter:
    """Counts tokens by formula. Every method returns a figure for any JSON; none raises, waits for I/O or downloads.

    The first count with a vocabulary loads it (half a second); `load` does so ahead of time, in a thread. A text of
    32 KB takes about 2 ms, so counting belongs into a thread as well.
    """

    def __init__(self, tokenizers: Tokenizers | None = None) -> None:
        """Count with *tokenizers*, or with the packaged vocabularies."""
        self._tokenizers = tokenizers or Tokenizers()

    def __repr__(self) -> str:
        return f"<TokenCounter {self._tokenizers!r}>"

    def loaded(self, model: object) -> bool:
        """Counting for *model* will not stop to load a vocabulary."""
        return self._tokenizers.tried(model_of(model).encoding)

    def load(self, model: object) -> bool:
        """Load the vocabulary of *model*; return whether it is there. Blocks for up to half a second."""
        return self._tokenizers.load(model_of(model).encoding)

    def count_text(self, text: str, model: object) -> Count:
        """Return how many tokens *text* is to *model*."""
        tally = Tally()
        known = model_of(model)
        tally.tokens = self._tokenizers.count(text, known.encoding)
        return self._judge(tally, known)

    def count_prompt(self, path: str, body: Mapping[str, object], *, model: object = None) -> Count:
        """Return the prompt tokens of the request *body* to *path*; *model* where the body does not name the real one.

        The path may be anything that ends like an endpoint: ``/v1/chat/completions``, ``/responses``, Azure's.
        """
        known = model_of(body.get("model") if model is None else model)
        words = partial(self._tokenizers.count, name=known.encoding)
        if path.endswith("/embeddings"):
            tally = prompts.texts(body.get("input"), words)
        elif path.endswith("/completions") and not path.endswith("/chat/completions"):
            tally = prompts.texts(body.get("prompt"), words)
            tally.tokens += prompts.texts(body.get("suffix"), words).tokens
        elif path.endswith("/responses"):
            tally = prompts.conversation(body, Endpoint.RESPONSES, known, words)
        else:
            tally = prompts.conversation(body, Endpoint.CHAT, known, words)
        return self._judge(tally, known)

    def count_completion(self, path: str, answer: Mapping[str, object], *, model: object = None) -> Count:
        """Return the completion tokens of the whole *answer* from *path* (streams: folded into their whole form).

        A reasoning model's answer is a lower bound: its reasoning is billed and not sent.
        """
        known = model_of(answer.get("model") if model is None else model)
        words = partial(self._tokenizers.count, name=known.encoding)
        if path.endswith("/embeddings"):
            tally = Tally()
        elif path.endswith("/completions") and not path.endswith("/chat/completions"):
            tally = answers.completions(answer, words)
        elif path.endswith("/responses"):
            tally = answers.conversation(answer, Endpoint.RESPONSES, known, words)
        else:
            tally = answers.conversation(answer, Endpoint.CHAT, known, words)
        return self._judge(tally, known)

    def _judge(self, tally: Tally, model: Model) -> Count:
        certain = tally.certain and model.known and self._tokenizers.load(model.encoding)
        return Count(
            max(0, tally.tokens), Method.COUNTED if certain else Method.ESTIMATED, lower_bound=tally.lower_bound
        )


@cache
def shared() -> TokenCounter:
    """The counter of this process: a vocabulary takes half a second and tens of megabytes, once."""
    return TokenCounter()
