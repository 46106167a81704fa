"""Morning reports: made from the database, then written as page, text and plot."""
