"""How networks are trained: needs the extra `train`."""
