"""Where entries live: every store keeps the one contract of ``proxy.ports.Store``."""
