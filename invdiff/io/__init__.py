"""Files in and out: pictures, tensors, drawn sheets, atomic writes. Knows nothing of the method."""
