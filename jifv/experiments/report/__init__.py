"""What a study leaves behind: summary, tables, figures and a page."""
