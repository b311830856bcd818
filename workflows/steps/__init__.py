"""One module and one function a step."""
