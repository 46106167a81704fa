"""A rack with no hardware: boards as processes, instruments as servers, one time for all of them."""
