"""Where vectors come from: the model on this machine, or a provider's endpoint."""
