"""Training of the shipped weights, and its data. Nothing else imports this package."""
