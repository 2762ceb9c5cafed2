"""Whether the answer to one text may serve another: pure stages, from the cheapest to the dearest."""
