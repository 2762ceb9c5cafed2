"""The demonstration: a real engine, the proxy and the real SDK on one machine, without a key or a network."""
