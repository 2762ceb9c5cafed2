"""How many tokens a text, a request or an answer has, known without the network."""
