"""Boards and instruments to look at: their requests, and the checks that the caretaker has done."""
