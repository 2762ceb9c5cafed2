"""The sentence model all-MiniLM-L6-v2 in numpy: text to tokens, tokens to states. Pure but for reading its files."""
