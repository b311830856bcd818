"""What a run leaves for people: report, status, scores."""
