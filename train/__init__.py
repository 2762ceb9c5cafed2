"""How the verifier's weights are made. Not part of the package; needs torch, lightgbm and the data named in NOTICE."""
