"""How the shipped weights were trained, and the data for it. Nothing else imports this room."""
