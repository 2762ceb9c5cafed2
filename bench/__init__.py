"""What the proxy costs, as ratios against nginx in the same run: ``python -m bench``."""
