"""What was asked, answered, spent and saved, and how that is known."""
