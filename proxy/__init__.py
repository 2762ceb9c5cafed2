"""askonce: an OpenAI-compatible transparent proxy that never pays twice for the same answer."""

__version__ = "0.1.0"
