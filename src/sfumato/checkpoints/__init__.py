"""Reading and writing diffusers folders; the embedded model."""
