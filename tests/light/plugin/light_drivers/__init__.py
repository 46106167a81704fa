"""Drivers for light boards, found by labd through entry points: nothing of labd's repository names them."""
