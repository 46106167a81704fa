"""Edge sources: what stamps the edges of timing pins with a clock of its own."""
