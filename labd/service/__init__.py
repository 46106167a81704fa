"""What a lab can be asked: one function a request, called by every face alike; and the documents that it shows."""
