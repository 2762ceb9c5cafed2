"""Ways of recognising a call."""
