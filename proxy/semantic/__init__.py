"""Questions of the same meaning: what is compared, how sure that must be, what was learned of it."""
