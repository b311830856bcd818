"""Networks: their architecture, geometry, weights and cost. Needs the extra `train`."""
