"""What semantic answers are worth and how often they are wrong: labelled questions, asked through the running proxy."""
