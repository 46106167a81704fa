"""What the lab remembers: tables, their states, the causes of an end, the database session and its migrations."""
